"""Frames become clusters: closed forms are the rules told as walks, in any batch, at every edge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foveate.layers.cluster import Clusters, TemporalClustering
from foveate.layers.cluster_rules import cumulative, equal_steps, even, middle_frames, slope
from foveate.layers.hamming import above_noise, hamming, lasting
from foveate.layers.ragged import Ragged

RULES = ("cumulative", "slope", "even", "random")
few = settings(max_examples=150, deadline=None, database=None, derandomize=True)
videos = st.lists(st.integers(0, 6), min_size=0, max_size=24)  # distances with many ties and zeros


def table(distances: list[int]) -> tuple[Tensor, Tensor]:
    return torch.tensor([distances], dtype=torch.int64), torch.tensor([[len(distances) + 1]])


def walk(distances: list[int], clusters: int) -> list[int]:
    """The cumulative rule, frame by frame: one step at most, each time the next g-th is passed."""
    so_far, number, found = 0, 1, []
    for distance in [0, *distances]:
        so_far += distance
        number += so_far * clusters > sum(distances) * number
        found.append(number - 1)
    return found


def drift(frames: int, seed: int = 0, shape: tuple[int, ...] = (6, 4, 3)) -> Tensor:
    """Maps (T, C, H, W) that change slowly, with zeros as behind a ReLU."""
    noise = torch.randn(frames, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.cumsum(0).relu().float()


@few
@given(videos, st.integers(1, 9))
def test_cumulative_is_the_walk(distances: list[int], clusters: int) -> None:
    found = cumulative(*table(distances), clusters)[0].tolist()
    frames = len(distances) + 1
    if sum(distances):
        assert found == walk(distances, clusters)
    else:  # nothing ever changes
        assert found == [t if frames <= clusters else t * clusters // frames for t in range(frames)]


@few
@given(videos, st.integers(1, 9))
def test_slope_cuts_after_the_largest_and_of_equals_the_later(distances: list[int], clusters: int) -> None:
    by_size = sorted(range(len(distances)), key=lambda t: (distances[t], t))
    cuts = set(by_size[len(by_size) - min(clusters - 1, len(by_size)) :])
    expected = [sum(cut < t for cut in cuts) for t in range(len(distances) + 1)]
    assert slope(*table(distances), clusters)[0].tolist() == expected


@few
@given(videos, st.integers(1, 9))
def test_equal_steps_count_g_ths(distances: list[int], clusters: int) -> None:
    found = equal_steps(table(distances)[0], clusters)[0].tolist()
    whole = sum(distances)
    for t, number in enumerate(found):
        so_far = sum(distances[:t])
        assert number * whole <= max(so_far * clusters - 1, 0) if whole else number == 0
        assert so_far * clusters <= (number + 1) * max(whole, 1)


@pytest.mark.parametrize("rule", RULES)
@few
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), clusters=st.integers(1, 6))
def test_every_rule_keeps_time(rule: str, lengths: list[int], clusters: int) -> None:
    found = run(lengths, clusters, rule=rule).grouping
    assert found.sizes.sum(1).tolist() == lengths
    for row, length in zip(found.assignment, lengths, strict=True):
        steps = row[:length].diff()
        assert row[0] == 0 and row[:length].max() < clusters and ((steps == 0) | (steps == 1)).all()
        assert (row[length:] == -1).all()


def run(lengths: list[int], clusters: int, seed: int = 0, **options: object) -> Clusters:
    torch.manual_seed(seed)
    maps = torch.cat([drift(length, 10 * seed + number) for number, length in enumerate(lengths)])
    return TemporalClustering(clusters, **options)(maps, lengths)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{}, {"lasting": True}, {"floor": True}, {"aggregate": "sum"}])
def test_a_ragged_batch_is_each_video_alone(rule: str, options: dict[str, object]) -> None:
    lengths = [9, 1, 30, 2, 3, 17]
    clustering = TemporalClustering(4, rule=rule, **options).eval()
    together = clustering(
        torch.cat([drift(length, number) for number, length in enumerate(lengths)]), lengths
    )
    for number, length in enumerate(lengths):
        maps, alone = clustering(drift(length, number), [length])
        group = together.grouping
        assert torch.equal(together.maps[4 * number : 4 * number + 4], maps)
        assert torch.equal(group.assignment[number, :length], alone.assignment[0])
        assert torch.equal(group.sizes[number], alone.sizes[0])
        assert torch.equal(group.distances[number, : length - 1], alone.distances[0])


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_a_map_is_that_of_its_frames(aggregate: str) -> None:
    maps, found = TemporalClustering(5, aggregate=aggregate)(drift(40), [40])
    for number in range(5):
        own = drift(40)[found.assignment[0] == number]
        expected = own.mean(0) if aggregate == "mean" else own.sum(0)
        assert torch.allclose(maps[number], expected, rtol=1e-5, atol=1e-5)


def test_a_bit_is_whether_an_activation_is_above_zero() -> None:
    maps = torch.tensor([[0.0, 1.0, -2.0], [-1.0, 5.0, 0.0], [3.0, 0.0, -1.0]]).view(3, 3, 1, 1)
    near, far = hamming([maps], 2)
    assert near.tolist() == [0, 2] and far.tolist() == [2]


@pytest.mark.parametrize("cuts", [[12], [1] * 12, [5, 4, 3], [2, 10], [11, 1]])
def test_distances_do_not_depend_on_the_chunks_or_the_layout(cuts: list[int]) -> None:
    maps = drift(12)
    bits = (maps > 0).flatten(1)
    chunked = hamming(maps.to(memory_format=torch.channels_last).split(cuts), 2)
    for step, found in enumerate(chunked, start=1):
        assert found.tolist() == (bits[step:] != bits[:-step]).sum(1).tolist()


@pytest.mark.parametrize("features", [1, 7, 8, 24, 1024, 3000, 4096])
def test_many_bits_are_counted_to_the_last(features: int) -> None:
    maps = torch.zeros(3, features, 1, 1)
    maps[1] = 1
    maps[2, ::3] = 1
    assert hamming([maps])[0].tolist() == [features, features - len(range(0, features, 3))]


def test_fewer_frames_than_clusters_repeat_the_last() -> None:
    for rule in RULES:
        maps, found = TemporalClustering(5, rule=rule)(drift(3), [3])
        assert found.assignment.tolist() == [[0, 1, 2]] and found.sizes.tolist() == [[1, 1, 1, 0, 0]]
        assert torch.equal(maps, drift(3)[[0, 1, 2, 2, 2]])


def test_one_frame_is_repeated() -> None:
    for rule in RULES:
        maps, found = TemporalClustering(4, rule=rule)(drift(1), [1])
        assert torch.equal(maps, drift(1).expand(4, -1, -1, -1)) and found.distances.shape == (1, 0)


def test_a_late_jump_leaves_clusters_to_repeat() -> None:
    still, moved = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    maps, found = TemporalClustering(4)(torch.cat([still.expand(9, -1, -1, -1), moved]), [10])
    assert found.assignment[0].tolist() == [0] * 9 + [1]
    assert torch.equal(maps[1:], moved.expand(3, -1, -1, -1)) and found.sizes.tolist() == [[9, 1, 0, 0]]


def test_a_constant_video() -> None:
    still = torch.ones(10, 2, 2, 2)
    by_rule = {
        rule: TemporalClustering(4, rule=rule)(still, [10]).grouping for rule in ("cumulative", "slope")
    }
    assert by_rule["cumulative"].assignment[0].tolist() == [t * 4 // 10 for t in range(10)]
    assert by_rule["slope"].assignment[0].tolist() == [0] * 7 + [1, 2, 3]  # the tie rule: the later cuts win


def test_losing_the_last_cluster_shows_the_one_before_it_twice() -> None:
    whole, lost = (run([40], 5, lose_last=lose) for lose in (False, True))
    assert torch.equal(lost.maps[:4], whole.maps[:4]) and torch.equal(lost.maps[4], whole.maps[3])
    assert not torch.equal(whole.maps[4], whole.maps[3])


def test_uniform_sampling_takes_the_middle_of_each_part() -> None:
    assert middle_frames([32], 8) == [2, 6, 10, 14, 18, 22, 26, 30]
    # three frames of the first video, then 0, 2, 4, 6 of the second
    assert middle_frames([3, 7], 4) == [0, 1, 2, 3, 5, 7, 9]
    spans = even(torch.tensor([[50]]), 50, 8)[0]
    assert spans[middle_frames([50], 8)].tolist() == list(range(8))


def test_lasting_ignores_one_odd_frame_and_keeps_a_change() -> None:
    scenes = torch.tensor([0, 0, 0, 1, 0, 0, 2, 2, 2]).view(-1, 1, 1, 1)
    maps = torch.cat([scenes == 0, scenes == 1, scenes == 2], dim=1).float()
    near, far = hamming([maps], 2)
    frames = Ragged([9])
    found = lasting(frames.pad(near, 1), frames.pad(far, 2), frames.counts)[0].tolist()
    assert near.tolist() == [0, 0, 2, 2, 0, 2, 0, 0]
    assert found == [0, 0, 0, 0, 0, 2, 0, 0]


def test_the_floor_takes_off_what_quiet_frames_have() -> None:
    quiet = [9, 10, 11, 10, 9, 11, 10, 10, 9, 11, 10]
    distances, counts = table([*quiet, 60, 70])
    found = above_noise(distances, counts)[0]
    assert found[:11].max() == 0 and found[-2:].tolist() == [48, 58]  # median 10, median deviation 1
    still, counts = table([0, 0, 0, 0, 5, 7])
    assert torch.equal(above_noise(still, counts), still)


def test_the_floor_does_not_move_the_cuts_of_slope() -> None:
    """Clamped at 0, all quiet places would tie, and spare cuts fall to the last frames."""
    distances = torch.tensor([9, 12, 8, 60, 10, 11, 9, 10, 70, 9, 10, 8])
    plain, floored = (
        TemporalClustering(4, rule="slope", floor=floor).group([distances], [13]) for floor in (False, True)
    )
    assert plain.assignment[0].diff().nonzero().flatten().tolist() == [1, 3, 8]
    assert torch.equal(plain.assignment, floored.assignment)


def test_random_cuts_are_drawn_in_training_and_stay_in_evaluation() -> None:
    clustering, maps = TemporalClustering(4, rule="random"), drift(40)
    drawn = [clustering(maps, [40]).grouping.assignment for _ in range(4)]
    assert not all(torch.equal(drawn[0], other) for other in drawn[1:])
    clustering.eval()
    first, second = (clustering(maps, [40]).grouping.assignment for _ in range(2))
    assert torch.equal(first, second)


def test_the_same_to_the_last_bit_every_time() -> None:
    first, second = run([50, 20], 6, seed=3), run([50, 20], 6, seed=3)
    assert torch.equal(first.maps, second.maps)
    doubled = TemporalClustering(6)(torch.cat([drift(50, 30), drift(50, 30)]), [50, 50]).maps
    assert torch.equal(doubled[:6], doubled[6:]) and torch.equal(doubled[:6], first.maps[:6])


def test_gradient_goes_to_every_frame_in_equal_parts() -> None:
    maps = drift(20).requires_grad_()
    rows, found, _ = TemporalClustering(8)(maps, [20])
    rows[2].sum().backward()
    share = torch.where(found.assignment[0] == 2, 1 / found.sizes[0, 2], 0.0)
    assert torch.allclose(maps.grad, share.view(-1, 1, 1, 1).expand_as(maps))


def test_gradient_of_repeated_rows_adds_up() -> None:
    maps = drift(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TemporalClustering(5)(x, [2]).maps, maps)


def test_half_precision_is_summed_in_single() -> None:
    many = torch.full((4000, 1, 1, 1), 1.0, dtype=torch.bfloat16)
    found = TemporalClustering(1)(many, [4000])
    assert found.maps.dtype == torch.bfloat16 and found.maps.item() == 1.0


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_a_video_without_frames_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        TemporalClustering(2)(drift(3), lengths)
