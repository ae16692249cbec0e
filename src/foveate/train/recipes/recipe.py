"""What a recipe is: named numbers for a model, and the stages that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.kept import Keep
from foveate.video.transform import Augment


@dataclass(frozen=True)
class Stage:
    """One run of the loop, in a folder of its own name; without a name it is the whole run.

    parts: names of what learns, with factors on the rate; none: everything, in the style of the settings.
    """

    name: str
    epochs: int
    rate: float
    parts: tuple[tuple[str, float], ...]
    objective: Any
    collect_rollout: Callable[[Any, Any], Any] | None = None  # (model, clips) -> what a policy learns from
    least: int = 1  # clips that a policy needs at once to learn
    feed: Callable[[Any], Any] | None = None  # what becomes of the batches on their way
    keep: Keep | None = None  # what its networks find once and for all in every clip
    judged: bool = False  # whether the model's own answers mean something after it
    needs: str = ""  # the stage whose result this one starts from
    chosen: dict[str, Any] = field(default_factory=dict)  # what else of the plan it follows, by name


@dataclass(frozen=True)
class Recipe:
    """How a family of models is trained."""

    name: str
    about: str  # one line for `foveate train --help`
    # of a model, by the job's settings and plan, and the weights of the classes in the loss (none: equal)
    stages: Callable[[Any, TrainJob, Sequence[float]], Sequence[Stage]]
    plan: Any  # a value of the dataclass of its options: the defaults
    train: TrainConfig = field(default_factory=TrainConfig)  # defaults of the loop
    augment: Augment = field(default_factory=Augment)
    own_rates: tuple[str, str] | None = None  # two of its options, where each stage has epochs and a rate
