"""Whether exported files answer as the model does, in a process that cannot import this package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from foveate.errors import ModelFileError
from foveate.infer.choice import TOLERANCE, relative_error
from foveate.measure.cost import measure_latency
from foveate.models.base import VideoModel

REPEATS = 5  # of one clip, timed
APART = """
import sys, time
from pathlib import Path

class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'foveate':
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotHere())
card, clips, answers, repeats, threads = sys.argv[1:]
sys.path.insert(0, str(Path(card).parent))
import numpy as np
import run
model, times = run.Exported(Path(card), int(threads)), []
clips = [*np.load(clips).values()]
logits = np.concatenate([model(clip[None]) for clip in clips])
together = model(np.stack(clips)) if len({clip.shape for clip in clips}) == 1 else logits
for _ in range(int(repeats)):
    begun = time.perf_counter()
    model(clips[0][None])
    times.append(1000 * (time.perf_counter() - begun))
np.savez(answers, logits=logits, together=together, times=np.sort(times))
"""


@dataclass(frozen=True)
class Check:
    """What a comparison found.

    error: largest difference of logits, of clips one by one and together, relative to the largest logit.
    same: share of clips with the same best class. megabytes: of all files but card and driver. ms, eager_ms:
    of one clip, medians.
    """

    clips: int
    error: float
    same: float
    megabytes: float
    ms: float
    eager_ms: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the error."""
        return self.error <= TOLERANCE["fp32"]  # which NaN is not


@torch.inference_mode()
def check_export(model: VideoModel, card: Path, clips: Sequence[Tensor]) -> Check:
    """Compare exported files with the model on clips, each (T, S, S, 3) uint8, in as many threads as PyTorch.

    ModelFileError if they do not run.
    """

    def eager(clip: Tensor) -> Tensor:
        return model.output(model.prepare(clip.unsqueeze(0))).logits

    wanted = torch.cat([eager(clip) for clip in clips])
    took = measure_latency(lambda: eager(clips[0]), REPEATS, "cpu")
    logits, together, times = _answers(card, clips)
    return Check(
        len(clips),
        max(relative_error(logits, wanted), relative_error(together, wanted)),
        float((logits.argmax(1) == wanted.argmax(1)).float().mean()),
        sum(path.stat().st_size for path in files_of(card)) / 1e6,
        float(times.median()),
        took.median,
    )


def files_of(card: Path) -> list[Path]:
    """The files that hold the graphs of a card; those of OpenVINO come in pairs."""
    parts = json.loads(card.read_text("utf-8"))["parts"].values()
    named = [card.with_name(part["file"]) for part in parts]
    return [*named, *(path.with_suffix(".bin") for path in named if path.suffix == ".xml")]


def _answers(card: Path, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of clips one by one and together, and milliseconds of one."""
    with TemporaryDirectory() as folder:
        given, answered = Path(folder, "clips.npz"), Path(folder, "answers.npz")
        np.savez(given, *(clip.numpy() for clip in clips))
        command = [sys.executable, "-I", "-B", "-c", APART, str(card.absolute()), str(given), str(answered)]
        done = subprocess.run(
            [*command, str(REPEATS), str(torch.get_num_threads())],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ModelFileError(card, f"does not run alone: {said[-1]}", "try another --to")
        with np.load(answered) as found:
            names = ("logits", "together", "times")
            one, all_, times = (torch.from_numpy(found[name]) for name in names)
    return one, all_, times
