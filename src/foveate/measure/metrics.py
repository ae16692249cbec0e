"""Accuracy metrics: top-k, mean class accuracy, mean average precision.

All take scores (N, C) of N videos, logits or probabilities, and do not depend on the order of the videos. A
class without a sample has neither accuracy nor precision: it is left out of the mean over classes and counted
as absent, where the usual scripts divide by zero or take it as 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassMean:
    """A metric of each class and its mean over the classes that occur."""

    value: float  # in [0, 1]; NaN if no class occurs
    per_class: Tensor  # (C,) float64 in [0, 1]; NaN for a class that does not occur
    absent: int  # classes without a positive sample


def top_k(scores: Tensor, labels: Tensor, k: int) -> float:
    """Top-k accuracy: the share of videos whose label is among the k highest scores, in [0, 1].

    labels: (N,) int64. Ties go to the lower class index. ValueError for k below 1 or no videos.
    """
    if k < 1 or len(scores) == 0:
        raise ValueError(f"top-{k} of {len(scores)} videos is not defined")
    return float((_rank(scores, labels) < k).double().mean())


def mean_class_accuracy(scores: Tensor, labels: Tensor) -> ClassMean:
    """Top-1 accuracy of each class, and the mean over classes. labels: (N,) int64."""
    correct = (_rank(scores, labels) == 0).double()
    counts = torch.bincount(labels, minlength=scores.shape[1]).double()
    hits = torch.bincount(labels, weights=correct, minlength=scores.shape[1])
    return _class_mean(hits / counts)  # 0 / 0 is NaN


def mean_average_precision(scores: Tensor, targets: Tensor) -> ClassMean:
    """Non-interpolated average precision of each class over the videos, and the mean of these.

    targets: (N, C), true or above 0 where the class occurs in the video. The precision at a positive video is
    the share of positives among the videos that score as high or higher, so ties are counted together.
    """
    _check_finite(scores)
    positive = targets > 0
    return _class_mean(
        torch.stack([_average_precision(s, p) for s, p in zip(scores.T, positive.T, strict=True)])
    )


def _average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    ranked, hits = scores.sort().values, scores[positive].sort().values
    above = len(ranked) - torch.searchsorted(ranked, hits)  # videos that score at least as high
    true_above = len(hits) - torch.searchsorted(hits, hits)
    return (true_above.double() / above).mean()  # of nothing is NaN


def _rank(scores: Tensor, labels: Tensor) -> Tensor:
    """Rank of the label, (N,): the number of classes that score higher, 0 for the top class."""
    _check_finite(scores)
    label_scores = scores.gather(1, labels[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    return ((scores > label_scores) | ((scores == label_scores) & (classes < labels[:, None]))).sum(1)


def _class_mean(per_class: Tensor) -> ClassMean:
    return ClassMean(float(per_class.nanmean()), per_class, int(per_class.isnan().sum()))


def _check_finite(scores: Tensor) -> None:
    if not scores.isfinite().all():
        raise ValueError("scores are not finite")
