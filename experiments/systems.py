"""Every system of this library on the same figures: what it names rightly, and what a video costs it.

The clips and the recipe are those of the AdaFocus laboratory (experiments/focus.py), whose rows are taken
from there. The budget is in epochs: a convolutional network sees each training clip ten times (those of V2
fourteen times). Seconds would be no fairer: they depend on the machine and its load, and on how well a kernel
happens to be written, so no one could repeat the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from benchmarks.child import in_child
from torch import Tensor

from experiments import focus, systems_data
from experiments.clips import Batches, Split, in_order
from experiments.focus_data import ACTIONS
from experiments.runner import Column, Experiment, Numbers
from experiments.spent import REPEATS, TIMED, Lesson, answering_memory, race, training_memory
from experiments.systems_data import SIDE, load_split
from foveate.layers.fully_conv_head import FullyConvHead
from foveate.layers.normalise import to_clip
from foveate.measure.cost import count_macs
from foveate.models.arnet import ARNet
from foveate.models.base import VideoModel
from foveate.models.slowfast import SlowFast
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.objective import Classification
from foveate.train.optim import learn_only
from foveate.train.recipes.arnet import Annealing, ARNetPlan, BranchWarmup, JointTraining, relative_costs
from foveate.train.recipes.focus_objectives import Warmup

Fields = dict[str, Any]

BATCH, EPOCHS = 16, 10
RECIPE: Fields = {"rate": 2e-3, "precision": "bf16"}  # beside what focus.train sets
MEASURED = TrainConfig(batch=BATCH, optimizer="adamw", precision="bf16")
PLAN = ARNetPlan(branch_epochs=4, joint_epochs=6, temperature_decay=0.4)

# A ResNet-10 of quarter width wherever a system allows it. A maximum over space, as in the laboratory: the
# figure, 5 % of the frame, is lost in an average.
COMMON: Fields = {"size": SIDE, "resize": SIDE, "width": 0.25, "dropout": 0.3}
PLAIN: Fields = COMMON | {"stem": "large", "pool": "max"}
DENSE: Fields = PLAIN | {"frames": systems_data.FRAMES, "clusters": 8}
UNIFORM: Fields = {"train_mode": "uniform", "eval_mode": "uniform"}
NETS: dict[str, tuple[str, Fields]] = {
    "tsn": ("tsn_r10_8", PLAIN),
    "tsn_4": ("tsn_r10_8", PLAIN | {"frames": 4}),  # what half of the frames are worth without any choice
    "tsm": ("tsm_r10_8", PLAIN),
    "tam": ("tam_r10_8", PLAIN),
    "blvnet_tam": ("blvnet_small", COMMON | {"frames": 8}),
    "i3d": ("i3d_ibm_r18_8", COMMON | {"depth": 10, "pool": "max"}),
    "slowfast": ("slowfast_small", COMMON | {"stem": "large", "frames": 12, "alpha": 3}),
    "fullvideo": ("fullvideo_small", DENSE),
    "fullvideo_uniform": ("fullvideo_small", DENSE | UNIFORM),
}
ARNET: Fields = {"widths": (0.25, 0.1875, 0.125), "stem": "large", "dropout": 0.3}


# ---- training


class PeakHead(FullyConvHead):
    """The head of SlowFast with the maximum over space that every other system has here."""

    def features(self, *maps: Tensor) -> Tensor:
        return torch.cat([x.amax((3, 4)).mean(2) for x in maps], dim=1).unsqueeze(1)


def build(name: str) -> VideoModel:
    """The untrained network of a system that is trained in one piece."""
    model = create_model(NETS[name][0], len(ACTIONS), **NETS[name][1])
    if isinstance(model, SlowFast):
        model.head = PeakHead(model.head.channels, len(ACTIONS), model.head.window, COMMON["dropout"])
    return model


def train_classifier(name: str, seed: int) -> VideoModel:
    torch.manual_seed(seed)
    model = build(name)
    learn(f"systems_{name}", seed, model, Classification(), EPOCHS)
    return model


def train_arnet(seed: int) -> ARNet:
    """All networks on all frames, then with the policy."""
    torch.manual_seed(seed)
    model = build_arnet()
    learn("systems_arnet_branches", seed, model, BranchWarmup(focus.CROSS_ENTROPY), PLAN.branch_epochs)
    joint = JointTraining(focus.CROSS_ENTROPY, relative_costs(model), PLAN)
    learn("systems_arnet", seed, model, joint, PLAN.joint_epochs)
    return model


def build_arnet() -> ARNet:
    model = create_model("arnet_small", len(ACTIONS), **ARNET)
    assert isinstance(model, ARNet)
    return model


def learn(name: str, seed: int, model: VideoModel, objective: Any, epochs: int) -> None:
    """Train all of a model for some epochs by the laboratory's recipe."""
    batches: Any = Batches(load_split("train", model.spec), BATCH, seed)
    if isinstance(objective, JointTraining):
        batches = Annealing(batches, PLAN)
    focus.train(name, seed, model, batches, objective, learn_only(model, (model, 1)), epochs=epochs, **RECIPE)


# ---- what training takes


def lesson(name: str) -> Lesson:
    model = build(name)
    return model, Classification()


def arnet_lesson() -> Lesson:
    return build_arnet(), BranchWarmup(focus.CROSS_ENTROPY)


def focus_lesson() -> Lesson:
    """Stage 0 of the patch network, on whole frames: every AdaFocus starts there."""
    model = focus.small()
    learn_only(model, (model.local, 1), (model.local_head, 1))
    return model, Warmup(focus.CROSS_ENTROPY, "local")


def whole_frames() -> VideoModel:
    return focus.on_whole_frames(focus.small())


# ---- measuring


@torch.inference_mode()
def judge(model: VideoModel, split: Split) -> Numbers:
    """The share of videos named rightly, and the multiply-adds that a video took on average."""
    said: list[Tensor] = []
    macs = 0
    for batch in in_order(split):
        clip = to_clip(batch.frames[:, 0], model.spec)
        macs += count_macs(model, clip, call=lambda clip: said.append(model(clip))).total
    right = torch.cat(said).argmax(1) == split.labels
    return {"top1": float(right.float().mean()), "mmacs": macs / len(right) / 1e6}


# ---- the table


@dataclass(frozen=True)
class System:
    """A row. train: seed -> the trained model. dearest: makes the stage that needs the most memory."""

    train: Callable[[int], Any]
    dearest: Callable[[], Lesson]
    untrained: Callable[[], VideoModel]


SYSTEMS: dict[str, System] = {
    **{
        name: System(partial(train_classifier, name), partial(lesson, name), partial(build, name))
        for name in NETS
    },
    "arnet": System(train_arnet, arnet_lesson, build_arnet),
    "adafocus": System(focus.learned_patch, focus_lesson, focus.small),
    "adafocus_plus": System(focus.plus_val, focus_lesson, partial(focus.small, skip=True)),
    "adafocus_v2_exit": System(partial(focus.exit_val, focus.v2), focus_lesson, focus.small_v2),
    "adafocus_full_frame": System(focus.full_frame, focus_lesson, whole_frames),
}


def run(variant: str, seed: int) -> Numbers:
    system = SYSTEMS[variant]
    memory = {
        "answering": in_child(answering_memory, system.untrained, BATCH),
        "memory": in_child(training_memory, system.dearest, MEASURED),
    }
    model = system.train(seed).eval()
    split = load_split("test", model.spec)
    still = torch.randint(256, (1, 8, SIDE, SIDE, 3), dtype=torch.uint8)
    numbers = judge(model, split) | race(model, split.frames, build("tsn"), still)
    return numbers | memory | {"frames": model.spec.frames}


FOUND = """What was found. These figures can be told from single frames, and a TSN that reads 8 whole frames
of 112 pixels names 99 % of them. So the table says what a good answer costs here, not which system sees
most; systems that relate frames have nothing to gain (where they have, see the fullvideo experiment).

The cheapest of those that choose is V2 with early exit: less than half of TSN's multiply-adds for 2 points.
A TSN that simply reads 4 frames instead of 8 (`tsn_4`) spends about as much and names 2 points less; but it
takes a quarter of V2's time, which reads frame by frame, and whose networks are small. AdaFocus spends as
much as TSN: it pays for 160 pixels where TSN needs 112. Against the same network on whole frames of 160
(`adafocus_full_frame`) it saves four fifths; two of its three seeds are about a point below that, and in
one the patch network had learnt nothing (see the focus experiment). AR-Net chooses its sizes so that it
spends what TSN does, and is as good, in three times the time. Full video reads three times the frames for
twice the multiply-adds.

Time follows multiply-adds only among networks of one kind: for each of them SlowFast takes 2.3 times as
long as TSN, AR-Net 3.0 and V2 with exit 5.7, at batch 1 on one core.

bLVNet-TAM, I3D and SlowFast are not done after ten epochs of a recipe that was tuned for another network:
SlowFast names 99.7 % in its own experiment. These rows are no verdict on what they can reach.

What was missed: accuracy does not part the good systems; that takes harder data. Peaks of memory are those
of processes; for the same network they differ by a tenth from run to run."""

EXPERIMENT = Experiment(
    name="systems",
    claim="All systems on the same figures, from scratch. The budget is the same clips and the same epochs: "
    "each convolutional network sees the 1600 training clips ten times (AR-Net: 4 epochs without and 6 with "
    "its policy; AdaFocus: 10 of the glance, 2 + 8 of the patch network, then its policy and classifier on "
    "what these have found; V2: 4 more of all). The recipe is that of the AdaFocus laboratory, tuned for no "
    "other system. Whole frames have 112 pixels a side; AdaFocus reads patches of 64 out of 160.",
    variants=tuple(SYSTEMS),
    columns=(
        Column("frames", "frames given", 1, 0),
        Column("top1", "test top-1, %", 100),
        Column("mmacs", "MMACs a video"),
        Column("ms", "ms a video, alone"),
        Column("times", "time, TSN = 1", digits=2),
        Column("answering", "peak memory growth, 16 videos answered, MiB", digits=0),
        Column("memory", "of a training step of 16, MiB", digits=0),
    ),
    run=run,
    settings={
        "laboratory": focus.SETTINGS,
        "side": SIDE,
        "drawn": systems_data.FRAMES,
        "epochs": EPOCHS,
        "recipe": RECIPE
        | {"batch": BATCH, "optimizer": "AdamW, decay 0.02, cosine, half an epoch of warm-up"},
        "nets": {name: [zoo, fields] for name, (zoo, fields) in NETS.items()},
        "arnet": ARNET | {"plan": str(PLAN)},
        "slowfast": "maximum over space in front of the classifier",
        "timed": [TIMED, REPEATS],
    },
    plot=("mmacs", "times", "top1"),
    after=FOUND,
)
