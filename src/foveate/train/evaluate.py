"""Evaluate a model on a list: scores of every video averaged over its views, then the measures.

A file that cannot be read is never left out in silence: it is named in the log and `n_ok` of `n_total` stand
beside the figures, which are of the readable ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from foveate.choices import Average, Ensemble
from foveate.errors import DataError, FoveateError
from foveate.infer.engine import Engine
from foveate.measure.metrics import mean_average_precision, mean_class_accuracy, top_k
from foveate.models.base import Frames as Clips
from foveate.models.base import ModelOutput, VideoModel
from foveate.train.distributed import ALONE, ProcessGroup
from foveate.train.objective import Frames, clips_of
from foveate.train.run import BadFile

log = logging.getLogger(__name__)


CHOICES = ("frames_read", "boxes", "looked", "sizes")  # of ModelOutput, kept of the first view
Row = tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]  # of a video: scores (A, C), label, macs (A,), details


class ViewBatch(Protocol):
    """Videos with their test views."""

    @property
    def frames(self) -> Frames: ...

    @property
    def labels(self) -> Tensor: ...  # (B,) class indices, or (B, C) of 0 and 1

    @property
    def indices(self) -> Tensor: ...  # (B,) places in the list

    @property
    def bad(self) -> Sequence[BadFile]: ...  # files that could not be read


@dataclass(frozen=True)
class Scored:
    """The scores of a list of videos, in order of the list."""

    scores: Tensor  # (N, C), mean or maximum over the views: logits, or probabilities if those were joined
    labels: Tensor  # (N,) or (N, C)
    indices: Tensor  # (N,) places in the list
    bad: tuple[BadFile, ...]  # files that could not be read
    macs: Tensor  # (N,) float64, multiply-adds of a view, averaged over the views of the video
    steps: Tensor | None = None  # (N, T, C), of a model that answers after every frame; the last are `scores`
    step_macs: Tensor | None = None  # (N, T) float64, until the answer after each frame; the last are `macs`
    # What a report shows of each video, by name, each (N, ..): `CHOICES`, and what the answer was at K places
    # in time (frames, or clips where a model gives one answer a clip): time_class (N, K), the best class,
    # time_answer and time_label, the probabilities of the final answer and of the label. A detail whose
    # length differs from video to video is left out.
    details: dict[str, Tensor] = field(default_factory=dict)
    answers_after: tuple[int, ...] = ()  # frames looked at closely before each of `steps`

    @property
    def total(self) -> int:
        """Videos of the list, readable or not."""
        return len(self.indices) + len(self.bad)


def evaluate(
    engine: Engine,
    loader: Iterable[ViewBatch],
    num_classes: int,
    multi_label: bool = False,
    *,
    average: Average = "logits",
    ensemble: Ensemble = "mean",
    clips_at_once: int = 32,
    world: ProcessGroup = ALONE,
) -> dict[str, float]:
    """The measures of an engine's model over batches of test views; see `measures` for the keys."""
    scored = score(
        engine, loader, average=average, ensemble=ensemble, clips_at_once=clips_at_once, world=world
    )
    return measures(scored, num_classes, multi_label)


def score(
    engine: Engine,
    loader: Iterable[ViewBatch],
    *,
    average: Average = "logits",
    ensemble: Ensemble = "mean",
    clips_at_once: int = 32,
    world: ProcessGroup = ALONE,
) -> Scored:
    """Run a model over the views of all videos and join the scores of each video.

    average: what is joined. A model that answers at several places of a large crop has its probabilities
    averaged over the places, view by view, as PySlowFast does; with logits, these, as PyTorchVideo does.

    clips_at_once: views that go through the model together, a limit on memory. With several processes each
    gives its own share of the list and all get the whole. The model is left in eval mode.
    """
    rows: dict[int, Row] = {}
    bad: list[BadFile] = []
    for batch, views_at_once in _sent_ahead(engine, loader, clips_at_once):
        bad += batch.bad
        if len(batch.labels):
            outputs = [engine.run(clips) for clips in views_at_once]
            videos = len(batch.labels)
            views = torch.cat([_answers(output, average) for output in outputs]).unflatten(0, (videos, -1))
            scores = views.mean(1) if ensemble == "mean" else views.amax(1)  # (B, A, C)
            details = _details(engine.model, outputs, scores[:, -1].argmax(1), batch.labels)
            macs = _costs(outputs, videos)
            for place, index in enumerate(batch.indices.tolist()):
                own = {name: detail[place] for name, detail in details.items()}
                rows[index] = scores[place], batch.labels[place], macs[place], own
    shares = world.gather((rows, bad))
    everything = {index: row for share, _ in shares for index, row in share.items()}
    unread = [file for _, share in shares for file in share]
    for file in unread if world.main else ():
        log.warning("%s: %s (left out of the evaluation)", file.path, file.cause)
    return replace(_in_order(everything, unread), answers_after=engine.model.answers_after)


def measures(scored: Scored, num_classes: int, multi_label: bool = False) -> dict[str, float]:
    """Shares in [0, 1] and counts.

    Single labels: top1, top5 (all classes if fewer), mean_class. Several: mAP, and top1 as the share of
    videos whose best class is one of theirs. Both: absent (classes without a video), n_ok and n_total;
    gmacs_per_view, 1e9 multiply-adds that a view cost on average; and of a model that answers after every
    frame top1_after_1, or mAP_after_1, and so on, by the frames looked at closely.
    """
    scores, labels = scored.scores, scored.labels
    if (labels < 0).any():
        raise DataError("evaluation list", f"{int((labels < 0).sum())} videos have no label")
    if scores.shape[1] != num_classes:
        raise FoveateError("model", f"gives {scores.shape[1]} scores, the list has {num_classes} classes")
    counts = {"n_ok": float(len(scores)), "n_total": float(scored.total)}
    counts["gmacs_per_view"] = float(scored.macs.mean()) / 1e9
    if multi_label:
        precision = mean_average_precision(scores, labels)
        best_is_right = labels.gather(1, scores.argmax(1, keepdim=True)) > 0
        top1 = float(best_is_right.double().mean())
        curve = _curve(scored, "mAP", lambda step: mean_average_precision(step, labels).value)
        return {"mAP": precision.value, "top1": top1, "absent": float(precision.absent), **counts, **curve}
    by_class = mean_class_accuracy(scores, labels)
    return {
        "top1": top_k(scores, labels, 1),
        "top5": top_k(scores, labels, 5),
        "mean_class": by_class.value,
        "absent": float(by_class.absent),
        **counts,
        **_curve(scored, "top1", lambda step: top_k(step, labels, 1)),
    }


def _curve(scored: Scored, name: str, measure: Callable[[Tensor], float]) -> dict[str, float]:
    """A measure after each frame read, if there are answers to each."""
    steps = () if scored.steps is None else scored.steps.unbind(1)
    after = scored.answers_after if len(scored.answers_after) == len(steps) else range(1, len(steps) + 1)
    return {f"{name}_after_{read}": measure(step) for read, step in zip(after, steps, strict=True)}


def _sent_ahead(
    engine: Engine, loader: Iterable[ViewBatch], at_once: int
) -> Iterator[tuple[ViewBatch, list[Clips]]]:
    """Each batch with the views that run together, sent on their way before the batch before is run."""
    before: tuple[ViewBatch, list[Clips]] | None = None
    for batch in loader:
        clips = clips_of(batch.frames) if len(batch.labels) else []
        now = batch, [engine.send(clips[first : first + at_once]) for first in range(0, len(clips), at_once)]
        if before:
            yield before
        before = now
    if before:
        yield before


def _answers(output: ModelOutput, average: Average) -> Tensor:
    """The scores of each view, (B*V, A, C) on the CPU, in float32.

    A is the number of frames for a model that answers after each of them, else 1; the last answer counts.
    """
    if output.step_logits is not None:
        return _scores(output.step_logits.float().cpu(), average)
    places = output.logits.unsqueeze(1) if output.position_logits is None else output.position_logits
    return _scores(places.float().cpu(), average).mean(1, keepdim=True)


def _of_views(outputs: Sequence[ModelOutput], name: str, videos: int) -> Tensor:
    """A field of the outputs, (B, V, ..) on the CPU."""
    return torch.cat([getattr(output, name).cpu() for output in outputs]).unflatten(0, (videos, -1))


def _costs(outputs: Sequence[ModelOutput], videos: int) -> Tensor:
    """Multiply-adds of a view until each of its answers, (B, A) float64, averaged over the views."""
    if outputs[0].step_logits is None or outputs[0].step_macs is None:
        return _of_views(outputs, "macs", videos).double().mean(1, keepdim=True)
    return _of_views(outputs, "step_macs", videos).double().mean(1)


def _details(
    model: VideoModel, outputs: Sequence[ModelOutput], answers: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """What a report shows of B videos. answers: (B,) their best classes. labels: (B,) or (B, C)."""
    first, videos = outputs[0], len(answers)
    details = {
        name: _of_views(outputs, name, videos)[:, 0] for name in CHOICES if getattr(first, name) is not None
    }
    timed = [name for name in ("step_logits", "frame_logits") if getattr(first, name) is not None]
    scores = model.probabilities(_of_views(outputs, timed[0] if timed else "logits", videos).float())
    over_time = scores.mean(1) if timed else scores  # (B, K, C): of frames over the views, or of the views
    if over_time.shape[1] > 1:
        details["time_class"] = over_time.argmax(2)
        pairs = [("time_answer", answers)] + ([("time_label", labels)] if labels.ndim == 1 else [])
        for name, classes in pairs:
            places = classes.clamp(min=0)[:, None, None].expand(-1, over_time.shape[1], 1)
            details[name] = over_time.gather(2, places).squeeze(2)
    return details


def _scores(logits: Tensor, average: Average) -> Tensor:
    if average == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if average == "sigmoid" else logits


def _in_order(rows: dict[int, Row], bad: Sequence[BadFile]) -> Scored:
    if not rows:
        raise DataError("evaluation list", f"no video could be read ({len(bad)} failed)")
    indices = sorted(rows)
    for index in indices:
        if not rows[index][0].isfinite().all():
            raise FoveateError("model", f"its scores of video {index} of the list are not finite")
    answers, truths, costs, every = zip(*(rows[index] for index in indices), strict=True)
    scores, labels, macs = (torch.stack(part) for part in (answers, truths, costs))
    names = [n for n in every[0] if len({own[n].shape if n in own else None for own in every}) == 1]
    details = {name: torch.stack([own[name] for own in every]) for name in names}
    steps = scores if scores.shape[1] > 1 else None
    step_macs = macs if macs.shape[1] > 1 else None
    indices_read = torch.tensor(indices)
    return Scored(scores[:, -1], labels, indices_read, tuple(bad), macs[:, -1], steps, step_macs, details)
