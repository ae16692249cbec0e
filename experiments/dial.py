"""One model for any budget against five that are each trained for one.

`any` is Uni-AdaFocus for any budget (models/adafocus/uni_any.py), trained once; its curve is solved on
validation clips, and it is set to each budget by it, as `foveate predict --budget` does. `alone` are plain
Uni-AdaFocus models of the width, patch and number of looks that fit each budget, each trained for it alone.
`set` is the first model without early exits, in the very settings of the others. The clips are the figures of
experiments/focus_data.py; nothing starts from other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from experiments import focus
from experiments.clips import Batches, Split, in_order
from experiments.focus_data import ACTIONS, CONFIG, COUNTS, FRAMES, SIDE, load_split
from experiments.runner import Column, Experiment, Numbers
from foveate.infer.engine import EagerEngine
from foveate.models.adafocus.uni_any import UniAny, UniAnyConfig
from foveate.models.adafocus.uni_long import UniAdaFocus, UniAdaFocusConfig
from foveate.models.dials import Setting
from foveate.train.budget import solve_curve
from foveate.train.optim import learn_only
from foveate.train.recipes.uni import UniObjective
from foveate.train.recipes.uni_any import UniAnyObjective, UniAnyPlan

Fields = dict[str, Any]
BATCH, EPOCHS = 16, 6
RECIPE: Fields = {"rate": 2e-3, "precision": "bf16"}
WIDTHS, PATCHES = (0.25, 0.5, 0.75, 1.0), (64, 80, 112)
NETS: Fields = {
    "glance": "resnet10",
    "local": "resnet10",
    "num_classes": len(ACTIONS),
    "size": SIDE,
    "resize": SIDE,
    "glance_size": 40,
    "glance_strides": (1, 2, 1, 1),
    "glance_width": 0.125,
    "pool": "max",
    "candidates": FRAMES,
    "glance_frames": 4,
    "temporal_width": 32,
    "spatial_width": 32,
    "spatial": "attention",
    "least_box": 0.5,
    "classifier_width": 128,
}
LOCAL_WIDTH = 0.25  # of the local network at full width


@dataclass(frozen=True)
class Alone:
    """A model for one budget. width: of the local network, as a share of the full one. patch: pixels."""

    width: float
    patch: int
    looks: int


BUDGETS: dict[float, Alone] = {
    0.1: Alone(0.25, 64, 8),
    0.2: Alone(0.5, 64, 8),
    0.4: Alone(0.5, 112, 8),
    0.7: Alone(0.75, 112, 8),
    1.0: Alone(1.0, 112, 8),
}


def train(name: str, seed: int, model: Any, objective: Any) -> None:
    batches = Batches(load_split("train"), BATCH, seed)
    groups = learn_only(model, (model, 1))
    focus.train(f"dial_{name}", seed, model, batches, objective, groups, epochs=EPOCHS, batch=BATCH, **RECIPE)


def any_budget(seed: int) -> UniAny:
    torch.manual_seed(seed)
    local = {"local_width": LOCAL_WIDTH, "local_frames": FRAMES, "patch": PATCHES[-1]}
    model = UniAnyConfig(**NETS, **local, widths=WIDTHS, small_patches=PATCHES[:-1]).build()
    plan = UniAnyPlan(size_weight=0, expected="probabilities")
    train("any", seed, model, UniAnyObjective(focus.CROSS_ENTROPY, focus.CROSS_ENTROPY, plan))
    return model


def alone(budget: float, seed: int) -> UniAdaFocus:
    torch.manual_seed(seed)
    own = BUDGETS[budget]
    local = {"local_width": LOCAL_WIDTH * own.width, "local_frames": own.looks, "patch": own.patch}
    model = UniAdaFocusConfig(**NETS, **local).build()
    objective = UniObjective(focus.CROSS_ENTROPY, size_weight=0, expected="probabilities")
    train(f"alone_{budget}", seed, model, objective)
    return model


# ---- measuring


@torch.inference_mode()
def judge(model: Any, split: Split) -> tuple[float, float]:
    """Share of clips that are named rightly, and multiply-adds of a clip, millions."""
    engine, right, macs = EagerEngine(model), 0, 0.0
    for batch in in_order(split):
        output = engine.run(batch.frames[:, 0])
        assert output.macs is not None
        right += int((output.logits.argmax(1) == batch.labels).sum())
        macs += float(output.macs.sum()) / 1e6
    return right / len(split.labels), macs / len(split.labels)


def found(budget: float, top1: float, macs: float) -> Numbers:
    return {f"top1_{budget}": top1, f"mmacs_{budget}": macs}


def of_any(seed: int) -> Numbers:
    model = any_budget(seed).eval()
    numbers: Numbers = {}
    val, test = load_split("val"), load_split("test")
    curve = solve_curve(EagerEngine(model), lambda: in_order(val), points=16)
    dial = model.dial
    for budget in BUDGETS:
        model.turn(curve.at(budget, dial))
        numbers |= found(budget, *judge(model, test))
    return numbers


def of_set(seed: int) -> Numbers:
    model = any_budget(seed).eval()
    numbers: Numbers = {}
    for budget, own in BUDGETS.items():
        model.turn(setting_of(model, own))
        numbers |= found(budget, *judge(model, load_split("test")))
    return numbers


def setting_of(model: UniAny, own: Alone) -> Setting:
    """Width and patch, and thresholds that let everybody stop after so many looks."""
    return (own.width, own.patch, *model.dial.exits.steady((), (own.looks + 1) / (FRAMES + 1)))


def of_alone(seed: int) -> Numbers:
    numbers: Numbers = {}
    for budget in BUDGETS:
        numbers |= found(budget, *judge(alone(budget, seed).eval(), load_split("test")))
    return numbers


def run(variant: str, seed: int) -> Numbers:
    torch.set_num_threads(1)
    return {"any": of_any, "set": of_set, "alone": of_alone}[variant](seed)


EXPERIMENT = Experiment(
    name="dial",
    claim="`any`: one model, trained once and set to each budget by its dial. `alone`: five that are each "
    "trained for one budget. `set`: the first in the settings of these, without early exits. Budgets are "
    "shares of the full cost, with the glances.",
    variants=("alone", "any", "set"),
    columns=(
        *(Column(f"top1_{budget}", f"top-1 at {budget:g}, %", 100) for budget in BUDGETS),
        *(Column(f"mmacs_{budget}", f"MMACs at {budget:g}") for budget in BUDGETS),
    ),
    run=run,
    settings={
        "clips": COUNTS,
        "figures": str(CONFIG),
        "nets": NETS,
        "local_width": LOCAL_WIDTH,
        "ways": [WIDTHS, PATCHES],
        "budgets": {str(budget): str(own) for budget, own in BUDGETS.items()},
        "recipe": RECIPE | {"batch": BATCH, "epochs": EPOCHS, "optimizer": "AdamW, decay 0.02, cosine"},
    },
)
