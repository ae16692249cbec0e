"""Models from files: ours (safetensors), and official checkpoints, downloaded by name where published."""

from foveate.weights.load import load_model
from foveate.weights.official import convert, load_official

__all__ = ["convert", "load_model", "load_official"]
