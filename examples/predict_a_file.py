"""Name what a video shows."""

from __future__ import annotations

import sys
from pathlib import Path

from foveate import predict

WORK = Path("work/examples")


def main() -> None:
    video, model = sys.argv[1:] if len(sys.argv) == 3 else made()
    result = predict(model, video, top=3)
    print(f"{result.video}, {result.duration_s:.1f} s")
    for guess in result.predictions:
        print(f"{guess.score:6.1%}  {guess.label}")
    print(f"{result.cost.gmacs:.3f} GMACs, {result.cost.frames_used} of {result.cost.frames_decoded} frames used")


def made() -> tuple[str, str]:
    """A video that the example of training did not see, and the model that it left."""
    return str(WORK / "figures/test/jump/00001.mp4"), str(WORK / "run/best.safetensors")


if __name__ == "__main__":
    main()
