"""Every kind of bad file, at every entry: prediction, check, batch, training, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foveate.batch.answer import Answering
from foveate.data.check import check_videos
from foveate.data.dataset import VideoDataset, make_loader
from foveate.data.lists import VideoEntry
from foveate.infer.engine import EagerEngine
from foveate.infer.isolated import IsolatedReader
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.models.base import VideoModel
from foveate.video.transform import Augment
from foveate.weights.load import load_model
from make_bad_videos import KINDS

Statuses = dict[str, str]  # of each path: ok, partial or refused


@pytest.fixture(scope="module")
def model() -> VideoModel:
    return load_model("adafocus_small", "figures")


def predicted(paths: list[str], model: VideoModel) -> Statuses:
    return {each.video: each.status for each in Predictor(model).predict_all(paths)}


def checked(paths: list[str], model: VideoModel) -> Statuses:
    return {row.path: row.status for row in check_videos(paths)}


def in_a_batch(paths: list[str], model: VideoModel) -> Statuses:
    entries = [VideoEntry(path) for path in paths]
    with IsolatedReader(ClipReader(model.spec)) as reader:
        rows = Answering(EagerEngine(model), reader, 4).rows(entries, range(len(entries)))
        return {row["video"]: row["status"] for row in rows}


def loaded(paths: list[str], model: VideoModel, augment: Augment | None) -> Statuses:
    entries = [VideoEntry(path, labels=(0,)) for path in paths]
    dataset = VideoDataset(entries, model.spec, 8, augment=augment)
    found: Statuses = {}
    for batch in make_loader(dataset, 4, 0, 0, augment is not None, 0):
        found |= {bad.path: "refused" for bad in batch.bad}
        found |= {paths[index]: "ok" for index in batch.indices.tolist()}
    return found


def trained(paths: list[str], model: VideoModel) -> Statuses:
    return loaded(paths, model, Augment())


def evaluated(paths: list[str], model: VideoModel) -> Statuses:
    return loaded(paths, model, None)


@pytest.mark.parametrize("entry", [predicted, checked, in_a_batch, trained, evaluated])
def test_every_kind_is_answered_as_the_policy_says(
    entry: Callable[[list[str], VideoModel], Statuses],
    corpus: tuple[Path, dict[str, Any]],
    model: VideoModel,
) -> None:
    policies = {str(corpus[0] / kind.file): kind.policy for kind, _ in KINDS.values()}
    there = {path: policy for path, policy in policies.items() if Path(path).is_file()}
    found = entry(list(there), model)
    assert len(found) == len(there)  # ok and bad are all that are listed
    wrong = {}
    for path, policy in there.items():
        # what reads some frames of a damaged file may miss the damage, and a training, which wants certain
        # frames, leaves out a file that lacks them
        damaged = {checked: ("partial",), trained: ("ok", "refused"), evaluated: ("ok", "refused")}
        right = {"accept": ("ok",), "partial": damaged.get(entry, ("partial", "ok"))}
        if found[path] not in right.get(policy, ("refused",)):
            wrong[Path(path).name] = (policy, found[path])
    assert not wrong
