"""Data sets that are made here, as real H.264 files: no download, the same bytes for the same seed."""

from foveate.data.synthetic.config import ACTIONS, HAND_ACTIONS, FiguresConfig
from foveate.data.synthetic.figures import FigureClip, make_figures, render_clip
from foveate.data.synthetic.move4mnist import Move4MnistConfig, make_move4mnist, render_move4mnist

__all__ = [
    "ACTIONS",
    "HAND_ACTIONS",
    "FigureClip",
    "FiguresConfig",
    "Move4MnistConfig",
    "make_figures",
    "make_move4mnist",
    "render_clip",
    "render_move4mnist",
]
