"""The recipe of a classifier: the loss of its logits, everything learns, one stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foveate.models.base import VideoModel
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.objective import Classification
from foveate.train.recipes.recipe import Recipe, Stage
from foveate.video.transform import Augment


@dataclass(frozen=True)
class ClassifierPlan:
    """A classifier has no options beside those of the loop."""


def stages(model: VideoModel, job: TrainJob, weights: Sequence[float] = ()) -> list[Stage]:
    """The one stage, which is the whole run."""
    objective = Classification(job.train.loss, job.train.label_smoothing, tuple(weights))
    return [Stage("", job.train.epochs, job.train.rate, (), objective, judged=True)]


CLASSIFIER = Recipe("classifier", "fine-tunes a pretrained network", stages, ClassifierPlan())
SMALL_CLASSIFIER = replace(
    CLASSIFIER,
    about="for some hundred videos and a CPU: AdamW, from scratch or from a file",
    train=TrainConfig(
        epochs=20,
        optimizer="adamw",
        rate=2e-3,
        reference_batch=None,
        weight_decay=0.02,
        groups="no_norm_bias_decay",
        warmup_epochs=0.5,
    ),
    augment=Augment(crop="random"),
)
