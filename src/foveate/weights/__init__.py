"""Checkpoints: our safetensors file, and one file for each official origin."""

from foveate.weights.load import load_model
from foveate.weights.official import convert, load_official

__all__ = ["convert", "load_model", "load_official"]
