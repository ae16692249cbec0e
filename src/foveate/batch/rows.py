"""The answer to one video as a row, and files of rows: Parquet or JSON lines with the same columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.choices import RowFormat
from foveate.errors import OutputError, UsageError
from foveate.infer.output import Prediction
from foveate.io import atomic_write

Row = dict[str, Any]
COLUMNS = (
    "index",  # place in the list, from 0
    "video",  # path or URL as listed; bytes that are not UTF-8 with escapes
    "status",  # ok, partial (damaged, answered as far as it goes) or refused
    "cause",  # what is wrong, or null
    "duration_s",
    "fps",
    "label",  # the best class, or null
    "score",  # its score, 0 to 1, or null
    "top",  # the best classes: label, index, score
    "segments",  # labels over time: start_s, end_s, label, index, score
    "features",  # what the classifier reads, float32, averaged over views and windows; or null
    "gmacs",  # multiply-adds / 1e9
    "frames_decoded",
    "frames_used",
    "patches",
)
SUFFIXES: dict[RowFormat, str] = {"parquet": ".parquet", "jsonl": ".jsonl"}


def row_of(place: int, answer: Prediction, features: NDArray[np.float32] | None = None) -> Row:
    """One row, under the names of `COLUMNS`. features: float32 (C,)."""
    best = answer.predictions[0] if answer.predictions else None
    return {
        "index": place,
        "video": answer.to_dict()["video"],
        "status": answer.status,
        "cause": answer.cause and answer.cause.encode("utf-8", "backslashreplace").decode(),
        "duration_s": answer.duration_s,
        "fps": answer.fps,
        "label": best and best.label,
        "score": best and best.score,
        "top": [{"label": each.label, "index": each.index, "score": each.score} for each in answer.top],
        "segments": [asdict(each) for each in answer.segments] if best else [],
        "features": None if features is None else features.tolist(),
        "gmacs": answer.cost.gmacs,
        "frames_decoded": answer.cost.frames_decoded,
        "frames_used": answer.cost.frames_used,
        "patches": answer.cost.patches,
    }


def check_format(format: RowFormat) -> None:
    """UsageError for a format whose package is missing."""
    if format == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            hint = "pip install 'foveate[batch]', or use --format jsonl"
            raise UsageError("--format parquet", "pyarrow is not installed", hint) from error


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows to a .parquet or .jsonl file, whole and on the disk or not at all. OutputError."""
    with atomic_write(path, durable=True) as part:
        if path.suffix == ".jsonl":
            lines = (json.dumps(row, allow_nan=False) + "\n" for row in rows)
            part.write_text("".join(lines), encoding="utf-8")
        else:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=_schema()), part)


def read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> list[Row]:
    """Some columns of the rows of a file. OutputError for a file that is damaged."""
    try:
        if path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            return [{name: row[name] for name in columns} for row in map(json.loads, lines)]
        import pyarrow.parquet

        rows: list[Row] = pyarrow.parquet.read_table(path, columns=list(columns)).to_pylist()
        return rows
    except (ValueError, KeyError, OSError) as error:  # pyarrow's are ValueError and OSError
        raise OutputError(path, f"cannot be read: {error}", "remove it, and it is made again") from error


def write_failures(rows: Iterable[Row], path: Path) -> None:
    """Write index, video, status and cause of the rows that are not ok, one JSON object a line."""
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def _schema() -> Any:
    import pyarrow as pa

    scored = [("label", pa.string()), ("index", pa.int32()), ("score", pa.float64())]
    spans = [("start_s", pa.float64()), ("end_s", pa.float64()), *scored]
    types = {
        "index": pa.int64(),
        **dict.fromkeys(("video", "status", "cause", "label"), pa.string()),
        **dict.fromkeys(("duration_s", "fps", "score", "gmacs"), pa.float64()),
        **dict.fromkeys(("frames_decoded", "frames_used", "patches"), pa.int64()),
        "top": pa.list_(pa.struct(scored)),
        "segments": pa.list_(pa.struct(spans)),
        "features": pa.list_(pa.float32()),
    }
    return pa.schema([(name, types[name]) for name in COLUMNS])
