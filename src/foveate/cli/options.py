"""Options that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from foveate.choices import ListFormat, Precision
from foveate.cli.inputs import calibrate_on, demand, device_named, resize_input
from foveate.cli.show import say
from foveate.errors import DataError, UsageError

if TYPE_CHECKING:
    from foveate.data.lists import VideoList
    from foveate.infer.engine import Engine
    from foveate.models.base import VideoModel

MEASURE_FROM = 32  # videos, for which the seconds that --engine auto measures come in again


@dataclass(frozen=True)
class EngineChoice:
    """What runs the model."""

    engine: str = "auto"
    """What runs the model: eager is PyTorch as it stands; openvino, onnxruntime and compile (of PyTorch,
    which takes minutes at first) compile its parts and keep them; auto takes the fastest, which it measures
    once, for 32 or more videos."""
    precision: Precision | None = None
    """fp32, bf16 where the processor has it (`foveate doctor` says so), or int8 by openvino, for which a
    model is calibrated first. If not given, fp32, or with engine auto whichever is fastest."""
    calibrate: Path | None = None
    """A list or folder of 100 to 300 videos like those to come: calibrate int8 on them, within minutes. What
    is found is kept, so later calls do without."""
    device: str = "cpu"
    """cpu, or cuda, for which there are the engines eager and compile, and precision fp16 too."""

    def open(
        self, model: VideoModel, videos: int, template: str | None = None, budget: str | None = None
    ) -> Engine:
        """The engine that is asked for, calibrated first if that is; says which one auto chose, and why.

        budget: what a clip may cost, which is refused before anything is measured if it cannot be.
        """
        from foveate.infer.budget import BudgetDial, check_budget
        from foveate.infer.engine import open_engine

        if budget is not None:
            check_budget(model, budget)
        if self.calibrate:
            calibrate_on(self.calibrate, model, self.engine, self.precision, template)
        device, measure = device_named(self.device), videos >= MEASURE_FROM
        engine = open_engine(model, self.engine, device, self.precision, measure)
        if engine.about.startswith("auto: "):
            say(engine.about)
        if budget is not None:
            share = BudgetDial(engine).set(budget)
            say(f"budget {budget}: {share:.3g} of the full cost")
        return engine


@dataclass(frozen=True)
class ViewChoice:
    """What is read of each video."""

    clips: int = 1
    """Clips over time of each window, averaged."""
    crops: int = 1
    """1 (centre) or 3 (left, centre, right) crops of each clip, averaged."""
    size: int | None = None
    """Side of the crop in pixels; the model's own if not given."""
    resize: int | None = None
    """Short side before the crop in pixels; the model's own, or `size` if that is larger."""
    template: str | None = None
    """Names of the images in folders, such as img_{:05d}.jpg; found by looking if not given."""
    keyframes: bool = False
    """Read the key frame nearest to each sampled frame in its place: several times as fast, not exact. The
    answer says so, and which frames were read."""
    untrusted: bool = False
    """Videos from strangers: read them in processes of their own, with limits on time, memory, pixels and
    frames."""

    def apply(self, model: VideoModel) -> None:
        """Let the model see crops of this size; UsageError for numbers that cannot be."""
        demand(1, clips=self.clips, crops=self.crops)
        resize_input(model, self.size, self.resize)


@dataclass(frozen=True)
class ListChoice:
    """How a list of labelled videos is read."""

    format: ListFormat = "auto"
    """Format of the list; auto looks at it."""
    root: Path | None = None
    """Folder that its paths start from; that of the list if not given."""
    template: str | None = None
    """Names of extracted frames, such as img_{:05d}.jpg."""
    split: str | None = None
    """Which part, of a format that has several."""

    def read(self, path: Path, model: VideoModel) -> VideoList:
        """The list, its labels understood as the model's; UsageError where its classes are others."""
        from foveate.data.lists import read_list
        from foveate.train.job import check_labels

        wanted = f"the model's classes ({_few(model.labels)})"
        hint = "was the model trained for them?"
        rest = self.template, self.split
        try:
            listed = read_list(path, self.format, self.root, model.labels or None, *rest)
        except DataError as error:
            read_list(path, self.format, self.root, None, *rest)  # raises where the list alone is at fault
            raise UsageError(path, f"does not fit {wanted}: {error.cause}", hint) from error
        for note in listed.notes:
            say(note)
        check_labels(listed, path)
        if listed.num_classes != model.num_classes:
            raise UsageError(path, f"has other classes ({_few(listed.class_names)}) than {wanted}", hint)
        return listed


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3]) + (", .." if len(names) > 3 else "")
    return f"{len(names)}: {shown}" if names else "without names"


ViewOptions = Annotated[ViewChoice, tyro.conf.OmitArgPrefixes]
ITS_OWN = ViewChoice()
EngineOptions = Annotated[EngineChoice, tyro.conf.OmitArgPrefixes]
AUTO = EngineChoice()
ListOptions = Annotated[ListChoice, tyro.conf.OmitArgPrefixes]
AS_IT_LOOKS = ListChoice()
