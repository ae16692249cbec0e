"""Run an exported model with numpy and the runtime of its files, without the package that made them.

`python run.py MODEL.json clips.npy logits.npy`. Clips are float32 (B, 3, T, S, S), as MODEL.json says.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def opened(path: Path) -> Callable[[list[Any]], list[Any]]:
    """What a file computes: arrays in the order of its inputs to arrays in the order of its outputs."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [place.name for place in session.get_inputs()]
        return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))
    if path.suffix == ".xml":
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda arrays: [*compiled(arrays).values()]
    import torch

    program = torch.export.load(path).module()
    return lambda arrays: [x.detach().numpy() for x in program(*map(torch.from_numpy, arrays))]


def cut(frame: Any, corner: Any, side: int) -> Any:
    """The patch of a frame (3, S, S) whose upper left corner is (row, column); bilinear between pixels."""
    (top, left), (down, right) = np.floor(corner).astype(int), (corner % 1).astype(np.float32)
    rows, columns = (np.minimum(np.arange(at, at + side + 1), frame.shape[-1] - 1) for at in (top, left))
    block = frame[:, rows[:, None], columns]
    block = block[:, :-1] * (1 - down) + block[:, 1:] * down
    return block[:, :, :-1] * (1 - right) + block[:, :, 1:] * right


class Exported:
    """A model, called with clips (B, 3, T, S, S); it returns logits (B, classes)."""

    def __init__(self, card: Path) -> None:
        self.card = json.loads(card.read_text("utf-8"))
        self.parts = {name: opened(card.parent / part["file"]) for name, part in self.card["parts"].items()}

    def __call__(self, clips: Any) -> Any:
        if not self.card["decisions"]:
            return self.run("model", {"clip": clips})["logits"]
        return np.concatenate([self.look_closer(clip[None]) for clip in clips])

    def run(self, part: str, values: dict[str, Any]) -> dict[str, Any]:
        """Call a part with the values that it names as inputs, and put its outputs among them."""
        named = self.card["parts"][part]
        found = self.parts[part]([values[name] for name in named["inputs"]])
        return values | dict(
            zip((name.removeprefix("next_") for name in named["outputs"]), found, strict=True)
        )

    def look_closer(self, clip: Any) -> Any:
        """AdaFocus: glance at frames, choose a patch in each, look at it, answer; stop once sure."""
        facts = self.card["decisions"]
        values = {name: np.zeros((1, width), np.float32) for name, width in facts["states"].items()}
        for number, step in enumerate(facts["steps"]):
            values = self.run("place", self.run("glance", values | {"frames": clip[:, :, step["glance"]]}))
            frames = clip[0, :, step["local"]]  # (t, 3, S, S), as indexing by a list puts its dimension first
            corners = np.broadcast_to(values["corners"][0], (len(frames), 2))
            local, looked = np.zeros((1, len(frames), facts["width"]), np.float32), np.ones(len(frames), bool)
            if "look" in self.parts:
                values = self.run("look", values)
                looked = values["looked"][0]
            if looked.any():
                places = zip(frames[looked], corners[looked], strict=True)
                patches = np.stack([cut(frame, corner, facts["patch"]) for frame, corner in places])
                local[0, looked] = self.run("local", {"patches": patches})["local"]
            values = self.run("classify", values | {"local": local})
            logits = values["answers"][:, number]
            if step["exit"] is not None and 1 / np.exp(logits - logits.max()).sum() >= step["exit"]:
                break  # the probability of the best class suffices
        return logits


if __name__ == "__main__":
    card, clips, logits = sys.argv[1:]
    np.save(logits, Exported(Path(card))(np.load(clips)))
