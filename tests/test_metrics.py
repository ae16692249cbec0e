"""Measures against their definitions, written out slowly, and on cases that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from foveate.measure.metrics import mean_average_precision, mean_class_accuracy, top_k


def test_top_k_by_hand() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.3, 0.4, 0.3]])
    labels = torch.tensor([1, 1, 2, 0])
    assert [top_k(scores, labels, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]


def test_top_k_never_asks_for_more_classes_than_there_are() -> None:
    assert top_k(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 5) == 1.0


def test_top_1_is_the_share_of_arg_max() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(200, 7), torch.randint(0, 7, (200,))
    assert top_k(scores, labels, 1) == pytest.approx(float((scores.argmax(1) == labels).double().mean()))


def test_equal_scores_earn_one_class_only() -> None:
    assert top_k(torch.zeros(4, 4), torch.arange(4), 1) == 0.25


def test_scores_that_are_not_finite_are_refused() -> None:
    scores = torch.tensor([[math.nan, 1.0]])
    for measure in (
        lambda: top_k(scores, torch.tensor([0]), 1),
        lambda: mean_average_precision(scores, scores),
    ):
        with pytest.raises(ValueError, match="not finite"):
            measure()


def test_nothing_has_no_accuracy() -> None:
    with pytest.raises(ValueError, match="0 videos"):
        top_k(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 1)


def test_every_class_counts_the_same_and_an_absent_one_is_left_out() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    scores = torch.zeros(10, 3)
    scores[:, 0] = 1  # always says class 0
    by_class = mean_class_accuracy(scores, labels)
    assert by_class.value == 0.5
    assert by_class.absent == 1
    assert by_class.per_class[:2].tolist() == [1.0, 0.0]
    assert by_class.per_class[2].isnan()
    assert top_k(scores, labels, 1) == 0.8


def test_average_precision_by_hand() -> None:
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    targets = torch.tensor([[1], [0], [1], [0]])
    assert mean_average_precision(scores, targets).value == pytest.approx((1 / 1 + 2 / 3) / 2)


def slow_average_precision(scores: Tensor, positive: Tensor) -> float:
    """Sum over the distinct thresholds of (rise of recall) x precision."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        true = float((chosen & positive).sum())
        recall = true / float(positive.sum())
        total += (recall - recall_before) * true / float(chosen.sum())
        recall_before = recall
    return total


def test_average_precision_is_its_definition_with_ties() -> None:
    torch.manual_seed(1)
    scores = torch.randint(0, 12, (60, 4)).float()
    targets = torch.rand(60, 4) < 0.3
    expected = [slow_average_precision(scores[:, c], targets[:, c]) for c in range(4)]
    result = mean_average_precision(scores, targets)
    assert result.per_class.tolist() == pytest.approx(expected)
    assert result.value == pytest.approx(sum(expected) / 4)
    order = torch.randperm(60)
    again = mean_average_precision(scores[order], targets[order])
    assert torch.allclose(again.per_class, result.per_class, rtol=0, atol=1e-12)


def test_an_absent_class_changes_no_mean() -> None:
    torch.manual_seed(2)
    scores, targets = torch.randn(20, 3), (torch.rand(20, 3) < 0.5).int()
    whole = mean_average_precision(scores, targets)
    wider = mean_average_precision(
        torch.cat([scores, torch.randn(20, 2)], 1),
        torch.cat([targets, torch.zeros(20, 2, dtype=torch.int32)], 1),
    )
    assert (whole.absent, wider.absent) == (0, 2)
    assert wider.value == pytest.approx(whole.value, abs=1e-12)
    assert wider.per_class[3:].isnan().all()


def test_perfect_and_useless_scores() -> None:
    targets = torch.eye(5)
    assert mean_average_precision(targets, targets).value == 1.0
    assert mean_average_precision(torch.zeros(5, 5), targets).value == pytest.approx(0.2)  # the base rate
    none = mean_average_precision(torch.zeros(5, 5), torch.zeros(5, 5))
    assert math.isnan(none.value)
    assert none.absent == 5
