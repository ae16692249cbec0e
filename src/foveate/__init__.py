"""Foveate: recognise human actions in video, spending computation only where the information is."""

__version__ = "0.1.0"

from foveate.infer.predict import predict
from foveate.models.zoo import create_model, list_models
from foveate.weights.load import load_model

__all__ = ["__version__", "create_model", "list_models", "load_model", "predict"]
