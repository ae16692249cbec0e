"""Make the videos that come with `foveate serve`: `python docs/make_examples.py`.

Drawn figures, which the small model that comes with the package has learnt; made anew with this seed, so none
of them was among its training videos.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av

OUT = Path(__file__).parents[1] / "src" / "foveate" / "serve" / "examples"
MODEL = "adafocus_small"
SINGLE = {"jump": "jump/00002", "wave": "wave/00003", "fall": "fall/00007"}
SEVERAL = ("walk/00000", "jump/00012", "clap/00004", "kick/00006", "run/00001", "squat/00005")
SECONDS = 3  # of each video of the set


def join(videos: list[Path], out: Path) -> None:
    """One video of several of the same size and rate, encoded again."""
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "26", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        number = 0
        for video in videos:
            with av.open(str(video)) as source:
                for frame in source.decode(video=0):
                    frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 16), 0
                    number += 1
                    container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make = ["foveate", "data", "make", "figures", f"{folder}/figures"]
        counts = ["--train", "1", "--val", "1", "--test", "24", "--seed", "77"]
        subprocess.run([sys.executable, "-m", *make, *counts], check=True)
        test = Path(folder) / "figures" / "test"
        OUT.mkdir(exist_ok=True)
        rows = []
        for number, (label, name) in enumerate(SINGLE.items(), start=1):
            join([test / f"{name}.mp4"], OUT / f"{label}.mp4")
            rows.append({"name": label, "title": f"Drawn figure {number}", "seconds": SECONDS})
        join([test / f"{name}.mp4" for name in SEVERAL], OUT / "several.mp4")
        seconds = SECONDS * len(SEVERAL)
        rows.append({"name": "several", "title": "Six actions", "seconds": seconds, "window": SECONDS})
        listed = [{"model": MODEL, "window": None} | row for row in rows]
        (OUT / "examples.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
