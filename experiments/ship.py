"""`python -m experiments.ship` writes the model of the package: the learned patch of the ablation.

AdaFocus of experiments/focus.py, first seed: eight actions of small figures, clips drawn in memory. What is
trained already is loaded from `work/focus_lab`; from nothing it takes about a quarter of an hour on one core.
Its curve of accuracy against cost is measured on other videos of the same actions, in `work/focus_curve`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.focus import SETTINGS, learned_patch
from experiments.focus_data import ACTIONS
from foveate.data.dataset import make_loader
from foveate.data.lists import read_list
from foveate.data.synthetic import FiguresConfig, make_figures
from foveate.infer.engine import EagerEngine
from foveate.models.base import VideoModel
from foveate.models.budget import Curve
from foveate.train.budget import solve_curve
from foveate.train.job import test_data
from foveate.weights.file import save_model
from foveate.weights.load import SHIPPED

SEED = 0
CURVE = Path("work/focus_curve")
CURVE_SEED, CURVE_VIDEOS, POINTS = 11, 400, 8


def curve_of(model: VideoModel) -> Curve:
    """Accuracy of the model by its cost, on videos that it has not seen."""
    config = FiguresConfig(actions=ACTIONS)
    make_figures(CURVE, train=0, val=CURVE_VIDEOS, test=0, seed=CURVE_SEED, config=config, workers=1)
    data = test_data(read_list(CURVE / "val.jsonl"), model, 1, 1)
    return solve_curve(EagerEngine(model), lambda: make_loader(data, 16, 0, 0, False, 1, 0), POINTS)


def main() -> None:
    torch.set_num_threads(1)
    model = learned_patch(SEED)
    model.labels = ACTIONS
    model.curve = curve_of(model)
    training = {"command": "python -m experiments.ship", "seed": SEED, **SETTINGS}
    save_model(model, SHIPPED["adafocus_small", "figures"], training)


if __name__ == "__main__":
    main()
