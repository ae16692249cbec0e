"""Run an exported model with numpy and the runtime of its files, without the package that made them.

`python run.py MODEL.json frames.npy logits.npy`. Frames are uint8 (B, T, S, S, 3), as MODEL.json says.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def opened(path: Path, threads: int) -> Callable[[list[Any]], list[Any]]:
    """What a file computes: arrays in the order of its inputs to arrays in the order of its outputs."""
    if path.suffix == ".onnx":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, settings)
        names = [place.name for place in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))
    if path.suffix == ".xml":
        import openvino

        wanted = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(path, "CPU", wanted)
        return lambda arrays: [*compiled(arrays).values()]
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    program = torch.export.load(path).module()
    return lambda arrays: [x.detach().numpy() for x in program(*map(torch.from_numpy, arrays))]


class Exported:
    """A model, called with frames (B, T, S, S, 3) uint8; it returns logits (B, classes)."""

    def __init__(self, card: Path, threads: int = 0) -> None:
        """threads: of the runtime, which chooses if it is 0."""
        self.card = json.loads(card.read_text("utf-8"))
        self.parts = {
            name: opened(card.parent / part["file"], threads) for name, part in self.card["parts"].items()
        }
        driver = self.card["driver"]  # a file beside this one, if the parts need one
        place = f"{__package__}.{driver}" if __package__ else driver
        self.answer = import_module(place).answer if driver else None

    def __call__(self, clips: Any) -> Any:
        if self.answer is None:
            return self.run("model", {"frames": clips})["logits"]
        return np.concatenate([self.answer(self.run, self.card["decisions"], clip) for clip in clips])

    def run(self, part: str, values: dict[str, Any]) -> dict[str, Any]:
        """Call a part with the values that it names as inputs, and put its outputs among them."""
        named = self.card["parts"][part]
        found = self.parts[part]([values[name] for name in named["inputs"]])
        names = [name.removeprefix("next_") for name in named["outputs"]]  # a state takes the old one's place
        return values | dict(zip(names, found, strict=True))


if __name__ == "__main__":
    card, frames, logits = sys.argv[1:]
    np.save(logits, Exported(Path(card))(np.load(frames)))
