"""`python -m experiments.ship` writes the model of the package: the learned patch of the ablation.

AdaFocus of experiments/focus.py, first seed: eight actions of small figures, clips drawn in memory. What is
trained already is loaded from `work/focus_lab`; from nothing it takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import torch

from experiments.focus import SETTINGS, learned_patch
from experiments.focus_data import ACTIONS
from foveate.weights.file import save_model
from foveate.weights.load import SHIPPED

SEED = 0


def main() -> None:
    torch.set_num_threads(1)
    model = learned_patch(SEED)
    model.labels = ACTIONS
    training = {"command": "python -m experiments.ship", "seed": SEED, **SETTINGS}
    save_model(model, SHIPPED["adafocus_small", "figures"], training)


if __name__ == "__main__":
    main()
