"""Stage exits: when a trained model may stop reading, solved on its training videos.

Nothing learns. The thresholds of models/adafocus/early_exit.py are found such that the training videos read
a wanted number of frames on average (Wang et al., "AdaFocus V2", CVPR 2022, section 3.4).
"""

from __future__ import annotations

import logging

from foveate.data.dataset import make_loader
from foveate.data.lists import VideoList
from foveate.errors import UsageError
from foveate.infer.engine import EagerEngine
from foveate.models.adafocus.early_exit import exit_shares, solve_thresholds
from foveate.models.base import VideoModel
from foveate.train.distributed import ProcessGroup
from foveate.train.evaluate import score
from foveate.train.job import TrainJob, test_data

log = logging.getLogger(__name__)


def check_exit_frames(model: VideoModel, frames: float | None) -> float:
    """`frames`; UsageError unless the model can stop after so many on average. It is left unchanged."""
    after = model.answers_after
    if len(after) < 2:
        raise UsageError("exits", f"{model.name} does not answer after every frame", "choose another model")
    if frames is None:
        raise UsageError("exits", "how many frames to read is not said", "give --exit-frames")
    before = model.config.exits
    try:
        exit_shares(len(after), frames, after)
        model.set_exits((0.0,) * len(after))
    except ValueError as error:
        raise UsageError("exits", str(error)) from error
    model.set_exits(before)
    return frames


def solve_exits(
    model: VideoModel, videos: VideoList, frames: float, job: TrainJob, world: ProcessGroup
) -> None:
    """Give the model thresholds with which these videos are answered after `frames` frames on average."""
    model.set_exits(())
    data = test_data(videos, model, clips=1, crops=1)
    batch, workers = job.train.batch, job.workers
    loader = make_loader(
        data, batch, 0, 0, False, workers, 0, world.rank, world.size, timeout_s=world.file_timeout_s
    )
    answers = score(EagerEngine(model), loader, world=world).steps
    assert answers is not None
    thresholds = solve_thresholds(answers, frames, model.answers_after)
    model.set_exits(thresholds)
    log.info("exits: reading stops at %s", " ".join(f"{threshold:.3f}" for threshold in thresholds))
