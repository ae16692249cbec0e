"""Options that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from foveate.choices import Precision
from foveate.cli.inputs import calibrate_on, device_named
from foveate.cli.show import say

if TYPE_CHECKING:
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

    def open(self, model: VideoModel, videos: int, template: str | None = None) -> Engine:
        """The engine that is asked for, calibrated first if that is; says which one auto chose, and why."""
        from foveate.infer.engine import open_engine

        if self.calibrate:
            calibrate_on(self.calibrate, model, self.engine, self.precision, template)
        device, measure = device_named(self.device), videos >= MEASURE_FROM
        engine = open_engine(model, self.engine, device, self.precision, measure)
        if engine.about.startswith("auto: "):
            say(engine.about)
        return engine


EngineOptions = Annotated[EngineChoice, tyro.conf.OmitArgPrefixes]
AUTO = EngineChoice()
