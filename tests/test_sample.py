"""Index arithmetic: bounds and order for any video, and the official formulas on examples."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.video.sample import (
    clip_indices,
    dense,
    even,
    every,
    rounded_segments,
    segments,
    span_of,
    views,
)

totals = st.integers(1, 2000)
lengths = st.integers(1, 64)
strides = st.integers(1, 16)
seeds = st.none() | st.integers(0, 2**32)
policies = st.sampled_from(["spread", "repeat_first", "repeat_last", "wrap"])
jitters = st.sampled_from(["each", "shared"])


def generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


@given(totals, lengths, seeds, policies, jitters)
def test_segments_stay_in_the_video(total, frames, seed, short, jitter):
    indices = segments(total, frames, generator(seed), short, jitter)
    assert len(indices) == frames
    assert all(type(i) is int and 0 <= i < total for i in indices)
    assert indices == segments(total, frames, generator(seed), short, jitter)
    if short != "wrap" or total >= frames:
        assert indices == sorted(indices)
    if total >= frames:
        assert len(set(indices)) == frames


@given(totals, lengths, seeds)
def test_each_segment_gives_one_frame(total, frames, seed):
    if total < frames:
        return
    indices = segments(total, frames, generator(seed))
    length = total // frames
    if seed is None:
        parts = [i * frames // total for i in indices]
        tolerance = 1  # the official float formula may round a boundary down
    else:
        parts = [i // length for i in indices]
        tolerance = 0
    assert all(abs(part - k) <= tolerance for k, part in enumerate(parts))


@given(totals, lengths)
def test_test_segments_are_the_published_formula(total, frames):
    tick = total / frames
    assert segments(total, frames) == [int(tick / 2.0 + tick * i) for i in range(frames)]


@given(totals, lengths, seeds)
def test_rounded_segments_are_the_release_s(total, frames, seed):
    ends = [int(np.round((total - 1) / frames * i)) for i in range(frames + 1)]
    indices = rounded_segments(total, frames, generator(seed))
    assert all(type(i) is int for i in indices) and len(indices) == frames
    assert all(a <= i <= b for i, (a, b) in zip(indices, pairwise(ends), strict=True))
    if seed is None:
        assert indices == [(a + b) // 2 for a, b in pairwise(ends)]


def test_views_of_rounded_segments():
    spec = ClipSpec(frames=4, sampling="rounded_segments")
    assert clip_indices(9, spec) == [1, 3, 5, 7] == views(9, spec)[0]
    assert views(9, spec, 2) == [[1, 3, 5, 7], [0, 2, 4, 6]]
    drawn = {tuple(clip_indices(9, spec, np.random.default_rng(seed))) for seed in range(500)}
    assert [set(column) for column in zip(*drawn, strict=True)] == [
        {start, start + 1, start + 2} for start in (0, 2, 4, 6)
    ]


def test_segments_of_a_hundred_frames():
    assert segments(100, 8) == [6, 18, 31, 43, 56, 68, 81, 93]
    assert segments(5, 8) == [0, 0, 1, 2, 2, 3, 4, 4]
    assert segments(8, 8) == list(range(8))


@given(st.integers(0, 2**32), totals, lengths)
def test_shared_offset_keeps_the_distance(seed, total, frames):
    if total < frames:
        return
    indices = segments(total, frames, np.random.default_rng(seed), jitter="shared")
    assert set(np.diff(indices)) <= {total // frames}


def test_own_offsets_differ_and_reach_the_whole_segment():
    seen = Counter()
    for seed in range(200):
        seen.update(i % 5 for i in segments(40, 8, np.random.default_rng(seed)))
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert min(seen.values()) > 0.7 * max(seen.values())
    distances = np.diff(segments(800, 8, np.random.default_rng(0)))
    assert len(set(distances.tolist())) > 1


def test_short_videos_by_each_policy():
    assert segments(3, 8, short="spread") == [0, 0, 0, 1, 1, 2, 2, 2]
    assert segments(3, 8, short="repeat_first") == [0] * 8
    assert segments(3, 8, short="repeat_last") == [0, 1, 2, 2, 2, 2, 2, 2]
    assert segments(3, 8, short="wrap") == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("short", ["spread", "repeat_first", "repeat_last", "wrap"])
def test_a_video_exactly_as_long_as_the_clip_is_not_short(short):
    assert segments(8, 8, short=short) == list(range(8))
    assert segments(8, 8, np.random.default_rng(0), short) == list(range(8))


@given(totals, lengths, strides, seeds)
def test_dense_is_a_stride_modulo_the_video(total, frames, stride, seed):
    indices = dense(total, frames, stride, generator(seed))
    start = indices[0]
    assert indices == [(start + stride * i) % total for i in range(frames)]
    assert all(0 <= i < total for i in indices)
    assert indices == dense(total, frames, stride, generator(seed))
    if total >= frames * stride:
        assert start + (frames - 1) * stride < total, "a long video must not wrap"
    else:
        assert start == 0


def test_dense_examples():
    assert dense(100, 8, 8) == list(range(18, 82, 8))
    assert dense(10, 8, 2) == [0, 2, 4, 6, 8, 0, 2, 4]
    assert dense(5, 4, 3, np.random.default_rng(0)) == [0, 3, 1, 4]


def test_dense_training_starts_include_both_ends():
    starts = {dense(20, 4, 4, np.random.default_rng(seed))[0] for seed in range(200)}
    assert starts == {0, 1, 2, 3, 4}


@given(totals, st.none() | st.integers(1, 100))
def test_every_keeps_an_even_pace_within_its_limit(total, limit):
    indices = every(total, limit)
    assert indices[0] == 0
    assert indices[-1] < total
    if limit is None or total <= limit:
        assert indices == list(range(total))
    else:
        step = indices[1] - indices[0] if len(indices) > 1 else total
        assert len(indices) <= limit
        assert set(np.diff(indices)) <= {step}
        assert len(range(0, total, step - 1)) > limit, "a smaller step would fit too"


def test_two_clips_are_the_twice_sample_of_tsm():
    tick = 100 / 8
    first, second = views(100, ClipSpec(frames=8), clips=2)
    assert first == [int(tick / 2 + tick * i) for i in range(8)]
    assert second == [int(tick * i) for i in range(8)]


def test_dense_views_start_evenly_from_the_first_to_the_last_place():
    spec = ClipSpec(frames=8, sampling="dense", stride=8)
    starts = [indices[0] for indices in views(300, spec, clips=10)]
    assert starts == np.linspace(0, 300 - 64, 10, dtype=int).tolist()
    assert views(300, spec) == [dense(300, 8, 8)]
    assert [indices[0] for indices in views(30, spec, clips=3)] == [0, 0, 0]


@given(totals, lengths, strides, st.integers(1, 10), st.sampled_from(["segments", "dense"]), policies)
def test_views_are_clips_of_the_video(total, frames, stride, clips, sampling, short):
    spec = ClipSpec(frames=frames, sampling=sampling, stride=stride, short=short)
    found = views(total, spec, clips)
    assert len(found) == clips
    assert all(len(indices) == frames for indices in found)
    assert all(0 <= i < total for indices in found for i in indices)
    assert views(total, spec, 1) == [clip_indices(total, spec)]


def test_clip_indices_follow_the_rule_of_the_specification():
    def rng():
        return np.random.default_rng(3)

    assert clip_indices(90, ClipSpec(frames=8), rng()) == segments(90, 8, rng())
    assert clip_indices(90, ClipSpec(frames=8), rng(), "shared") == segments(90, 8, rng(), jitter="shared")
    assert clip_indices(90, ClipSpec(frames=8, sampling="dense", stride=4), rng()) == dense(90, 8, 4, rng())
    assert clip_indices(90, ClipSpec(frames=50, sampling="all"), rng()) == list(range(0, 90, 2))
    assert clip_indices(3, ClipSpec(frames=4, short="repeat_last")) == [0, 1, 2, 2]


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="total is 0"):
        segments(0, 8)
    with pytest.raises(ValueError, match="stride is 0"):
        dense(10, 8, 0)
    with pytest.raises(ValueError, match="limit is 0"):
        every(10, 0)
    with pytest.raises(ValueError, match="total is 0"):
        views(0, ClipSpec(sampling="dense"), clips=2)
    with pytest.raises(UsageError, match="one clip"):
        views(100, ClipSpec(sampling="all"), clips=2)
    with pytest.raises(UsageError, match="0 test clips"):
        views(100, ClipSpec(), clips=0)


# Evenly over a stretch of time


@given(totals, lengths, strides, seeds)
def test_even_clips_stay_in_the_video_and_in_order(total, frames, stride, seed):
    indices = even(total, frames, frames * stride, generator(seed))
    assert len(indices) == frames
    assert all(type(i) is int and 0 <= i < total for i in indices)
    assert indices == sorted(indices)
    assert indices == even(total, frames, frames * stride, generator(seed))


def test_even_distances_are_real_numbers():
    """(span - 1) / (frames - 1) = 63 / 31, truncated: a little more than the stride of 2."""
    assert even(64, 32, 64) == [int(i * 63 / 31) for i in range(32)]
    assert even(164, 4, 64)[0] == 50 and even(164, 4, 64)[-1] == 113


@given(seeds, st.floats(1, 400))
def test_an_even_clip_spans_what_it_should(seed, span):
    indices = even(500, 16, span, generator(seed))
    assert indices[-1] - indices[0] <= span
    assert indices[-1] - indices[0] >= span - 3


def test_a_video_too_short_for_an_even_clip_repeats_its_end():
    assert even(5, 8, 16) == [0, 2, 4, 4, 4, 4, 4, 4]


EVEN = ClipSpec(frames=32, sampling="even", stride=2, fps=30.0)


@pytest.mark.parametrize(("fps", "span"), [(30, 64), (60, 128), (25, 64 * 25 / 30), (None, 64), (0.1, 1)])
def test_an_even_clip_is_a_stretch_of_time(fps, span):
    assert span_of(EVEN, fps) == pytest.approx(span)


def test_even_views_begin_evenly_and_end_before_the_end():
    clips = views(364, EVEN, 10)
    assert [clip[0] for clip in clips] == [30 * k for k in range(10)]
    assert clips[-1][-1] == 270 + 63
    assert views(364, EVEN)[0] == clip_indices(364, EVEN)
    assert clip_indices(364, EVEN)[0] == 150
    assert views(364, EVEN, 1, fps=60.0)[0][-1] - views(364, EVEN, 1, fps=60.0)[0][0] == 127
