"""Hooks of mkdocs: tables of results, which lie outside of docs/, become pages of the site.

On GitHub a link such as ../benchmarks/results/decode.md leads out of docs/; a site cannot. So what is linked
is added to the site under its path in the repository, and links out of docs/ are turned to it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
GUESTS = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results/*.md", "experiments/results/**/README.md")
SHOWN = ("benchmarks/results/*.png", "experiments/results/**/*.png", "experiments/results/finetune/**/*.json")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def guests() -> list[str]:
    """Paths in the repository of what joins the site."""
    found = (path for pattern in (*GUESTS, *SHOWN) for path in ROOT.glob(pattern))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def on_files(files: Files, config: Any) -> Files:
    """Add the guests; those that are no page of the navigation are linked, so they need no place in it."""
    for name in guests():
        file = File.generated(config, name, abs_src_path=str(ROOT / name))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between docs/ and the guests; a link to source code becomes its path in words."""
    here = page.file.src_uri
    place = here if here in guests() else f"docs/{here}"
    known = {file.src_uri for file in files}

    def turned(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), found[1]))
        inside = target.removeprefix("docs/")
        if inside not in known:
            return found[0]
        return f"]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{found[2] or ''})"

    return LINK.sub(turned, markdown)
