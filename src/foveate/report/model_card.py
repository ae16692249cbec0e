"""The card of a model file: what a repository of the Hub says of it, written from the file alone."""

from __future__ import annotations

import hashlib
import html
from pathlib import Path
from typing import Any

import torch
import yaml

from foveate.clip import FLOW_PAIRS
from foveate.measure.cost import count_parameters
from foveate.models.base import VideoModel
from foveate.weights.file import ModelCard, read_model


def model_card(path: Path, name: str, license: str = "unknown") -> str:
    """The Markdown, with a header for the Hub. name: user/name, for the lines that use it.

    ModelFileError for a file that cannot be used.
    """
    model, card = read_model(path)
    header = {
        "license": license,
        "library_name": "foveate",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", "foveate", card.name],
    }
    rows = "\n".join(
        f"| {_plain(key)} | {_plain(value)} |" for key, value in _facts(path, model, card).items()
    )
    classes = ", ".join(map(_plain, card.labels))
    named = f"\n## Classes\n\n{classes}\n" if classes else ""
    return f"""---
{yaml.safe_dump(header, sort_keys=False)}---

# {name}

A model of Foveate, a Python package that names actions in videos. `model.safetensors` holds the weights, the
configuration and the class names.

| | |
| --- | --- |
{rows}

## Use

```
pip install 'foveate[hub]'
foveate predict video.mp4 --model hf:{name}
```

```python
import foveate

print(foveate.predict("video.mp4", "hf:{name}").label)
```
{named}"""


def _facts(path: Path, model: VideoModel, card: ModelCard) -> dict[str, Any]:
    spec = card.spec
    rate = f" at {spec.fps:g} frames/s" if spec.fps else ""
    clip = f"{spec.frames} frames" if spec.sampling != "all" else "all frames"
    clip += f", each {FLOW_PAIRS} successive optical flows," if spec.modality == "flow" else ""
    facts = {
        "model": card.name,
        "trained on": card.trained_on or "not said in the file",
        "classes": model.num_classes,
        "scores": "one sigmoid a class" if card.independent else "softmax",
        "clip": f"{clip} of {spec.size}x{spec.size} pixels{rate}, sampled by `{spec.sampling}`",
        "multiply-adds of a clip": _cost(model),
        "parameters": f"{count_parameters(model) / 1e6:.2f} M",
        **{f"training: {key}": value for key, value in card.training.items()},
        "written by": f"Foveate {card.version}",
        "SHA-256": _digest(path),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _cost(model: VideoModel) -> str:
    """Of one view; of a model whose work depends on the video, on a black one."""
    spec = model.spec
    if spec.sampling == "all":
        return "depends on the length of the video"
    black = torch.zeros(1, spec.frames, spec.size, spec.size, spec.channels, dtype=torch.uint8)
    with torch.inference_mode():
        macs = model.output(model.prepare(black)).macs
    assert macs is not None  # in eval mode
    return f"{int(macs.sum()) / 1e9:.3g} G" + (
        " on a black video; depends on the video" if model.dynamic else ""
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: object) -> str:
    """Text of a file on one line, with nothing in it that Markdown or a browser would act on."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return "".join(f"\\{sign}" if sign in "\\*_[]|#!" else sign for sign in text)
