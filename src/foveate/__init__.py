"""Foveate: recognise human actions in video, spending computation only where the information is."""

__version__ = "0.1.0"
