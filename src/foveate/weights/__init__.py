"""Load models: from Foveate files (safetensors), official checkpoints, and published weights by name."""

from foveate.weights.load import load_model
from foveate.weights.official import convert, load_official

__all__ = ["convert", "load_model", "load_official"]
