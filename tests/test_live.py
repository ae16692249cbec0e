"""Labels for frames that keep coming, by models that step and by models of clips."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveate.errors import UsageError
from foveate.infer.engine import EagerEngine, open_engine
from foveate.infer.live import Live, LiveAnswer, StepwiseLive, WindowedLive, open_live
from foveate.models.zoo import create_model
from foveate.video.pace import Pace
from foveate.video.transform import test_transform as centre_crop

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"size": 32, "resize": 32}


def engine_of(name: str, **fields: Any) -> EagerEngine:
    torch.manual_seed(0)
    model = create_model(name, 5, **fields).eval()
    model.labels = tuple("abcde")
    return EagerEngine(model)


def online(**fields: Any) -> EagerEngine:
    return engine_of("tsm_r10_8", **SMALL, temporal="past", **fields)


def pictures(count: int, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def scores_of(answer: LiveAnswer) -> list[float]:
    return [each.score for each in sorted(answer.predictions, key=lambda each: each.index)]


def answers(live: Live, frames: NDArray[np.uint8], fps: float, first_s: float = 0.0) -> list[LiveAnswer]:
    found = (live.push(frame, first_s + place / fps) for place, frame in enumerate(frames))
    return [answer for answer in found if answer is not None]


def cropped(engine: EagerEngine, frames: NDArray[np.uint8]) -> torch.Tensor:
    return centre_crop(torch.from_numpy(frames), engine.model.spec)


def test_online_tsm_answers_each_frame_as_in_a_clip() -> None:
    engine, frames = online(), pictures(6)
    found = answers(open_live(engine, every=0.1), frames, 10)
    whole = engine.run(cropped(engine, frames))
    assert whole.frame_logits is not None and whole.macs is not None
    expected = whole.frame_logits[0].softmax(-1)
    assert torch.allclose(torch.tensor([scores_of(each) for each in found]), expected, atol=1e-6)
    assert [each.time_s for each in found] == pytest.approx([place / 10 for place in range(6)])
    assert {each.start_s for each in found} == {0.0}
    assert sum(each.macs for each in found) == int(whole.macs)
    assert found[0].predictions[0].rank == 1 and found[0].label in "abcde"


def test_adafocus_answers_step_by_step_and_begins_anew() -> None:
    engine = engine_of("adafocus_small")
    count, frames = engine.model.spec.frames, pictures(11, 120, 160)
    live = open_live(engine, every=0.5)
    found = answers(live, frames, 2)
    whole = engine.run(cropped(engine, frames[:count]))
    assert whole.step_logits is not None and whole.boxes is not None and whole.macs is not None
    expected = whole.step_logits[0].softmax(-1)
    assert torch.allclose(torch.tensor([scores_of(e) for e in found[:count]]), expected, atol=1e-5)
    assert [e.start_s for e in found] == [0.0] * count + [count / 2] * (11 - count)
    assert sum(e.macs for e in found[:count]) == int(whole.macs)
    again = answers(open_live(engine, every=0.5), frames[count:], 2)
    assert scores_of(again[0]) == pytest.approx(scores_of(found[count]), abs=1e-5)
    assert [e.boxes[0].frame for e in found] == list(range(11))
    left, top, right, bottom = found[0].boxes[0].box
    assert 0 <= left < right <= 160 and 0 <= top < bottom <= 120 and found[0].to_dict()["boxes"]


@pytest.mark.parametrize("name", ["x3d_xs", "slowfast_small"])
def test_a_model_of_clips_sees_the_last_seconds_at_its_pace(name: str) -> None:
    engine = engine_of(name, **(SMALL if name == "x3d_xs" else {}))
    spec = engine.model.spec
    live = open_live(engine, every=0.4)
    count = spec.frames + 3
    frames = pictures(count, 130, 140)
    found = answers(live, frames, live.fps)
    labelled = [round(each.time_s * live.fps) for each in found]
    assert labelled[-1] >= spec.frames - 1 and len(found) > 1
    steps = np.diff([each.time_s for each in found])
    assert steps == pytest.approx(live.every, abs=1 / live.fps)
    for last, answer in zip(labelled, found, strict=True):
        clip = [max(0, place) for place in range(last - spec.frames + 1, last + 1)]
        alone = engine.run(cropped(engine, frames[clip])).logits[0].softmax(-1)
        assert scores_of(answer) == pytest.approx(alone.tolist(), abs=1e-5)
        assert answer.start_s == pytest.approx(clip[0] / live.fps)


def test_a_clip_of_segments_spreads_over_what_there_is() -> None:
    engine, frames = engine_of("tsn_r10_8", **SMALL), pictures(40)
    live = open_live(engine, every=1.0, window=2.0)
    assert live.fps == 4 and live.every == 1
    found = answers(live, frames, 10)  # of which about every third is read
    assert [each.time_s for each in found] == pytest.approx([1.0, 2.0, 3.0], abs=0.11)
    assert found[0].start_s == 0 and found[-1].start_s == pytest.approx(1.2, abs=0.26)


@pytest.mark.parametrize(
    "name", ["tsn_r10_8", "adafocus_v2_small", "arnet_small", "fullvideo_small", "blvnet_small"]
)
def test_other_systems_are_windowed(name: str) -> None:
    live = open_live(engine_of(name), window=1.0)
    found = answers(live, pictures(60, 120, 130), live.fps)
    assert isinstance(live, WindowedLive) and found and found[0].macs > 0
    assert len(live._ring) <= live.fps * live.covered_s + 2


def test_slow_sources_and_gaps_keep_the_clip_in_its_time() -> None:
    engine = engine_of("slowfast_small")
    live = open_live(engine, every=1.0)
    slow = answers(live, pictures(8, 130, 130), live.fps / 3)
    assert slow and all(each.time_s - each.start_s <= live.covered_s for each in slow)
    before = live._last_s
    assert before is not None
    assert live.push(pictures(1)[0], before + 60) is None and len(live._ring) == 1


def test_time_that_goes_back_begins_a_stream() -> None:
    engine, frames = online(), pictures(4)
    live = open_live(engine, every=0.1)
    first = answers(live, frames, 10, 100.0)
    again = answers(live, frames, 10, 3.0)
    assert [scores_of(each) for each in again] == [scores_of(each) for each in first]
    assert {each.start_s for each in again} == {3.0}


def test_only_wanted_frames_are_read_and_none_changes_the_answer() -> None:
    engine, frames = online(), pictures(30)
    all_of_them = answers(open_live(engine, every=0.2), frames, 15)
    live, found = open_live(engine, every=0.2), []
    for place, frame in enumerate(frames):
        if live.wants(place / 15):
            found.append(live.push(frame, place / 15))
    assert [scores_of(e) for e in found if e] == [scores_of(e) for e in all_of_them] and len(found) == 10


def test_scores_are_smoothed_if_asked_for() -> None:
    engine, frames = online(), pictures(5)
    plain = answers(open_live(engine, every=0.5), frames, 2)
    smooth = answers(open_live(engine, every=0.5, smooth=2.0), frames, 2)
    mean = np.array(scores_of(plain[0]))
    for one, other in zip(plain, smooth, strict=True):
        if one is not plain[0]:
            mean += (1 - math.exp(-0.25)) * (np.array(scores_of(one)) - mean)
        assert scores_of(other) == pytest.approx(mean.tolist(), abs=1e-6)


def test_frames_of_any_size_and_kind() -> None:
    engine, live = online(), open_live(online(), every=0.1)
    assert live.push(torch.from_numpy(pictures(1)[0]), 0.0)
    assert live.push(pictures(1, 200, 30)[0], 0.1)
    assert live.push(pictures(1)[0][::-1], 0.2)
    for wrong in (
        pictures(1),
        pictures(1)[0][..., :2],
        pictures(1)[0].astype(np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(UsageError, match="frame"):
            open_live(engine).push(wrong, 0.0)
    with pytest.raises(UsageError, match="time_s"):
        live.push(pictures(1)[0], math.nan)


def test_an_engine_that_compiles_steps_too() -> None:
    pytest.importorskip("openvino")
    model, frames = online().model, pictures(3)
    ours = answers(open_live(open_engine(model, "openvino"), every=0.1), frames, 10)
    plain = answers(open_live(EagerEngine(model), every=0.1), frames, 10)
    for one, other in zip(ours, plain, strict=True):
        assert scores_of(one) == pytest.approx(scores_of(other), abs=1e-4) and one.macs == other.macs


def test_warmup_leaves_no_trace() -> None:
    for engine in (online(), engine_of("slowfast_small")):
        fresh, warm, frames = open_live(engine), open_live(engine), pictures(40, 130, 130)
        warm.warmup()
        found, expected = (answers(live, frames, 4.0, 7.0) for live in (warm, fresh))
        assert expected and [e.predictions for e in found] == [e.predictions for e in expected]


def test_in_a_hurry_a_clip_takes_the_frames_and_answers_after_them() -> None:
    engine, frames = engine_of("slowfast_small"), pictures(40, 130, 130)
    live, late = open_live(engine, every=0.5), open_live(engine, every=0.5)
    whole = answers(live, frames, live.fps)
    hurried = [late.push(frame, place / late.fps, hurry=place < 39) for place, frame in enumerate(frames)]
    assert (
        hurried[:-1] == [None] * 39 and hurried[-1] is not None and live.backlog == engine.model.spec.frames
    )
    if whole[-1].time_s == hurried[-1].time_s:
        assert whole[-1].predictions == hurried[-1].predictions
    assert open_live(online()).backlog == 1


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"every": math.nan}, {"smooth": -1}, {"top": 0}, {"window": 1e9}]
)
def test_numbers_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_live(online(), **options)


def test_a_pace_keeps_its_grid_and_jumps_what_it_missed() -> None:
    def taken(times: list[float]) -> list[float]:
        pace, found = Pace(1.0), []
        for time_s in times:
            if pace.due(time_s):
                pace.take(time_s)
                found.append(time_s)
        return found

    assert taken([0, 0.4, 0.95, 1.2, 2.1, 3.05]) == [0, 0.95, 2.1, 3.05]
    assert taken([0, 5.5, 5.6, 6.4, 6.5]) == [0, 5.5, 6.4]
    assert isinstance(open_live(online()), StepwiseLive)
