"""Name what a video shows.

    python examples/predict_a_file.py [VIDEO MODEL]

Without arguments it takes what `python examples/train_on_a_folder.py` left: its model, and a video that the
training did not see. Expected then, the percentages being others on another machine:

    work/examples/figures/test/fall/00002.mp4, 3.0 s
     91.1%  fall
      7.2%  jump
      1.7%  walk
    0.202 GMACs, 8 of 25 decoded frames used
"""

from __future__ import annotations

import sys

from foveate import predict

MADE = ("work/examples/figures/test/fall/00002.mp4", "work/examples/run/best.safetensors")


def main() -> None:
    video, model = sys.argv[1:] or MADE
    result = predict(video, model, top=3)
    print(f"{result.video}, {result.duration_s:.1f} s")
    for guess in result.predictions:
        print(f"{guess.score:6.1%}  {guess.label}")
    spent = result.cost
    print(f"{spent.gmacs:.3f} GMACs, {spent.frames_used} of {spent.frames_decoded} decoded frames used")


if __name__ == "__main__":
    main()
