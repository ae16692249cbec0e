"""The attention policy, the features that are kept for it, and its recipe from list to model file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from foveate.data.lists import read_list
from foveate.errors import UsageError
from foveate.layers.patch import grid_corners
from foveate.models.adafocus.attention import AttentionPolicy, CellAttention, window_coverage
from foveate.models.zoo import create_model
from foveate.report.folder import read_run
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob, TrainLoader, named_model
from foveate.train.kept import Keep, KeptFeatures
from foveate.train.objective import loss_function
from foveate.train.recipes import with_plan
from foveate.train.recipes.adafocus import AdaFocusPlan
from foveate.train.recipes.attention import AttentionPlan, set_whitening, upper_blocks
from foveate.train.recipes.focus_objectives import PatchTraining, TableFeatures, keep_table
from foveate.train.stages import train_model
from foveate.train.stop import Stopped
from foveate.video.transform import Augment
from foveate.weights.file import read_model

MODEL = "adafocus_lite0_lite0_128"
SETTINGS = (
    "glance=resnet10", "local=resnet10", "glance_width=0.125", "local_width=0.125", "size=48", "resize=48",
    "glance_size=32", "patch=24", "frames=2", "classifier_width=8",
)  # fmt: skip
PLAN = AttentionPlan(guide_size=48, attend_epochs=2, answer_epochs=2, tune_epochs=1, tune_blocks=1)


def job(videos: Path, out: Path) -> TrainJob[AttentionPlan]:
    train = TrainConfig(batch=4, optimizer="adamw", reference_batch=None, max_bad_fraction=0.5)
    return TrainJob(
        videos,
        out,
        MODEL,
        val=videos,
        settings=SETTINGS,
        workers=0,
        train=train,
        augment=Augment(),
        plan=PLAN,
    )


# ---- the policy


def test_a_position_covers_the_cells_under_it() -> None:
    coverage = window_coverage(side=6, grid=7, frame=96, patch=32)  # cells of 16 pixels
    torch.testing.assert_close(coverage.sum(1), torch.full((49,), 4.0), atol=0.02, rtol=0)
    first = coverage[0].view(6, 6)
    assert first[:2, :2].eq(1).all() and first.sum() == 4
    assert coverage[-1].view(6, 6)[4:, 4:].eq(1).all()


def hot_policy() -> AttentionPolicy:
    """A policy whose score of a cell is its first channel."""
    policy = AttentionPolicy(4, 4, side=6, windows=(7, 96, 32), num_classes=2).eval()
    attention = CellAttention(4, squeeze=4, width=4)
    attention.project.weight.data = torch.eye(4)[..., None, None]
    attention.project.bias.data.zero_()  # type: ignore[union-attr]
    for layer in (attention.score[1], attention.score[4]):
        layer.weight.data = torch.eye(4)[: layer.out_channels, :, None, None] * 4
        layer.bias.data.zero_()
    policy.attention = attention.eval()
    return policy


def test_the_patch_lies_where_the_score_is_high() -> None:
    maps = torch.zeros(1, 3, 4, 6, 6)
    maps[..., 0, 4, 1] = 1  # pixels 64 to 80 down, 16 to 32 to the right
    with torch.no_grad():
        corners = grid_corners(hot_policy()(maps).logits.argmax(-1), grid=7, room=64)
    rows, columns = corners.unbind(-1)
    assert (rows <= 64).all() and (rows + 32 >= 80).all()
    assert (columns <= 16).all() and (columns + 32 >= 32).all()


def test_frame_by_frame_gives_what_the_clip_gives() -> None:
    torch.manual_seed(0)
    policy, maps, state = hot_policy(), torch.randn(2, 3, 4, 6, 6), None
    with torch.no_grad():
        whole = policy(maps)
        for t in range(3):
            step = policy(maps[:, t : t + 1], state)
            torch.testing.assert_close(step.logits[:, 0], whole.logits[:, t])
            state = step.state
    torch.testing.assert_close(state, whole.state)


def test_one_unclear_frame_does_not_move_the_patch() -> None:
    maps = torch.zeros(1, 3, 4, 6, 6)
    maps[..., 0, 4, 1] = 1
    unclear = maps.clone()
    unclear[:, 2] = 0
    unclear[:, 2, 0, 0, 5] = 0.3
    with torch.no_grad():
        there, still = (hot_policy()(each).logits.argmax(-1)[0, 2] for each in (maps, unclear))
    assert there == still


def test_whitened_components_are_apart_and_of_like_scale() -> None:
    torch.manual_seed(0)
    cells = torch.randn(500, 6) @ torch.randn(6, 6) * 3 + 5
    attention = CellAttention(6, squeeze=4)
    set_whitening(attention, cells)
    with torch.no_grad():
        found = attention.projected(cells.T.reshape(1, 1, 6, 20, 25))[0, 0].flatten(1)  # (4, 500)
    covariance = torch.cov(found)
    assert found.mean(1).abs().max() < 1e-3
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3
    assert covariance.diag().max() < 1 and covariance.diag().min() > 0.2


def test_the_guide_knows_as_many_classes_as_the_model() -> None:
    model = create_model(MODEL, glance="resnet10", local="resnet10", frames=2)
    model.reset_head(7)
    assert model.policy.guide.head.out_features == model.num_classes == 7  # type: ignore[union-attr]


def test_the_guide_costs_nothing_at_inference() -> None:
    model = create_model(MODEL, glance="resnet10", local="resnet10", frames=2).eval()
    assert not [name for name in model.parts if "guide" in name]


def test_the_last_blocks_of_any_network() -> None:
    lite = create_model("tsn_lite0_8").backbone
    assert upper_blocks(lite, 3) == ["blocks.14", "blocks.15", "last"]
    assert upper_blocks(create_model("tsn_r50_8").backbone, 2)[-1].startswith("layer4")


# ---- what is kept


def levels(model: object, clip: Tensor) -> dict[str, Tensor]:
    return {"level": clip.mean((1, 3, 4))}


def kept(videos: Path, out: Path, keep: Keep) -> KeptFeatures:
    chosen, _ = with_plan(job(videos, out))
    listed = read_list(videos)
    model = named_model(chosen, listed)
    return KeptFeatures(keep, model, TrainLoader(chosen, model, listed), out / "kept")


def test_kept_features_are_those_of_the_clips(videos: Path, tmp_path: Path) -> None:
    features = kept(videos, tmp_path, Keep("levels", levels, ("glance",), views=2))
    for epoch in (0, 1, 2):
        batches = list(features.batches(epoch, 0))
        assert [len(batch.labels) for batch in batches] == [4, 4]
        order = torch.cat([batch.indices for batch in features.loader.batches(epoch, 0)])
        values = torch.cat([batch.values["level"] for batch in batches])
        for index, value in zip(order.tolist(), values, strict=True):
            clip = features.model.prepare(features.loader.data[epoch % 2, index].frames)  # type: ignore[operator]
            torch.testing.assert_close(value, levels(None, clip)["level"][0], atol=2e-3, rtol=2e-3)
    assert torch.equal(values[4:], next(iter(features.batches(2, 1))).values["level"])


def test_only_what_is_missing_is_computed_again(videos: Path, tmp_path: Path) -> None:
    counted: Counter[str] = Counter()

    def counting(model: object, clip: Tensor) -> dict[str, Tensor]:
        counted["clips"] += len(clip)
        return levels(model, clip)

    kept(videos, tmp_path, Keep("levels", counting, ("glance",), views=2)).fill()
    assert counted["clips"] == 16
    state = np.load(tmp_path / "kept" / "state.npy", mmap_mode="r+")
    state[1, 4:] = 0
    kept(videos, tmp_path, Keep("levels", counting, ("glance",), views=2)).fill()
    assert counted["clips"] == 20
    other = kept(videos, tmp_path, Keep("levels", counting, ("glance",), views=2))
    next(other.model.get_submodule("glance").parameters()).data += 1  # other weights: nothing fits any more
    other.fill()
    assert counted["clips"] == 36


def test_a_bad_file_is_in_every_epoch_s_list_of_bad_files(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for path in videos.parent.glob("*.npy"):
        (folder / path.name).write_bytes(path.read_bytes() if path.stem != "3" else b"no array")
    (folder / "list.jsonl").write_text(videos.read_text())
    features = kept(folder / "list.jsonl", tmp_path, Keep("levels", levels, ("glance",)))
    for epoch in (0, 1):
        batches = list(features.batches(epoch, 0))
        assert sum(len(batch.labels) for batch in batches) == 7
        (bad,) = [file for batch in batches for file in batch.bad]
        assert bad.path.endswith("3.npy") and bad.cause


def test_every_stretch_of_a_bad_file_is_known_to_be_bad(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npy").write_bytes(b"no array")
    lines = videos.read_text().splitlines()
    lines += [
        json.dumps({"path": f"{tmp_path}/broken.npy", "labels": [0], "start": start, "end": start + 2})
        for start in (0, 2, 4, 6)
    ]
    listed = videos.parent / "stretches.jsonl"
    listed.write_text("\n".join(lines) + "\n")
    counted: Counter[str] = Counter()

    def counting(model: object, clip: Tensor) -> dict[str, Tensor]:
        counted["clips"] += len(clip)
        return levels(model, clip)

    features = kept(listed, tmp_path, Keep("levels", counting, ("glance",)))
    features.fill()
    assert np.load(tmp_path / "kept" / "state.npy").tolist() == [[1] * 8 + [2] * 4]
    bad = [file for batch in features.batches(0, 0) for file in batch.bad]
    assert sorted(file.index for file in bad) == [8, 9, 10, 11] and all(file.cause for file in bad)
    kept(listed, tmp_path, Keep("levels", counting, ("glance",))).fill()
    assert counted["clips"] == 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"views": 0}, "views of maps: 0 draws"), ({"guide_size": 0}, "--guide-size: is 0")],
)
def test_plans_of_nothing_are_refused(
    videos: Path, tmp_path: Path, fields: dict[str, int], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train_model(replace(job(videos, tmp_path / "run"), plan=replace(PLAN, **fields)))
    assert not (tmp_path / "run").exists()


# ---- the recipe


def test_the_recipe_runs_from_list_to_model_file(videos: Path, tmp_path: Path) -> None:
    model, outcome = train_model(job(videos, tmp_path))
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"attend", "answer", "tune"}
    assert not list(tmp_path.rglob("kept")), "the features give their space back"
    assert set(outcome.scores) >= {"top1", "top1_after_2"}
    first = json.loads((tmp_path / "attend" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"guide_loss", "apart"} <= first.keys()
    loaded, _ = read_model(tmp_path / "best.safetensors")
    clip = torch.randn(1, 3, 2, 48, 48)
    with torch.inference_mode():
        ours, theirs = model.eval().output(clip), loaded.output(clip)
    assert torch.equal(ours.logits, theirs.logits)
    assert ours.boxes is not None and theirs.boxes is not None and torch.equal(ours.boxes, theirs.boxes)
    assert loaded.policy.attention.project.weight.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_a_run_that_is_stopped_while_features_are_kept_goes_on_to_the_same(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train_model(job(videos, tmp_path / "whole"))
    write, calls = KeptFeatures._write, Counter[str]()

    def stopping(self: KeptFeatures, *given: object) -> None:
        write(self, *given)  # type: ignore[arg-type]
        calls["batches"] += 1
        if calls["batches"] == 1:
            raise Stopped(15)

    monkeypatch.setattr(KeptFeatures, "_write", stopping)
    with pytest.raises(Stopped):
        train_model(job(videos, tmp_path / "cut"))
    cut, _ = train_model(replace(job(videos, tmp_path / "cut"), resume=True))
    assert calls["batches"] == 8  # two views of two batches for two stages, none of them twice
    for (name, ours), theirs in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_model_without_the_policy_is_refused(videos: Path, tmp_path: Path) -> None:
    chosen = replace(job(videos, tmp_path), settings=(*SETTINGS, "policy=centre"))
    with pytest.raises(UsageError, match="has no policy that attends"):
        train_model(chosen)


# ---- AdaFocus's own stages from kept features


def test_a_table_answers_as_the_networks_do() -> None:
    torch.manual_seed(0)
    model = create_model("adafocus_small", frames=3).eval()
    clip = torch.randn(2, 3, 3, model.config.size, model.config.size)
    with torch.no_grad():
        seen, table = model.see(clip), TableFeatures(model, keep_table(model, clip))
        corners = table.random_corners()
        looked = torch.tensor([[True, False, True], [True, True, False]])
        torch.testing.assert_close(table.local(corners, looked), seen.local(corners, looked))
        torch.testing.assert_close(table.glance().features, seen.glance().features)


def test_kept_features_move_to_the_device_of_the_model(videos: Path, tmp_path: Path) -> None:
    settings = ("resize=32", "size=32", "glance_size=16", "patch=16", "frames=2")
    chosen = replace(job(videos, tmp_path), model="adafocus_small", settings=settings, plan=AdaFocusPlan())
    listed = read_list(videos)
    model = named_model(chosen, listed)
    loader = TrainLoader(chosen, model, listed)
    features = KeptFeatures(Keep("table", keep_table, ("glance", "local")), model, loader, tmp_path / "kept")
    features.fill()
    model.to("meta")  # a device without numbers, which refuses to compute with those of the CPU
    batch = next(iter(features.batches(0, 0)))
    for patches in ("random", "policy"):
        loss = PatchTraining(loss_function("cross_entropy"), patches)(model, batch)["loss"]  # type: ignore[arg-type]
        assert loss.device.type == "meta"


def test_policy_and_classifier_learn_from_kept_features(videos: Path, tmp_path: Path) -> None:
    plan = AdaFocusPlan(
        glance_epochs=0, local_epochs=0, patch_epochs=0, policy_epochs=2, tune_epochs=1, kept_views=1
    )
    settings = ("resize=32", "size=32", "glance_size=16", "patch=16", "frames=2", "skip=true")
    train_model(replace(job(videos, tmp_path), model="adafocus_small", settings=settings, plan=plan))
    stages = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert stages == {"stage2", "stage2_skip", "stage3"}
    records = [json.loads(line) for line in (tmp_path / "stage2" / "metrics.jsonl").read_text().splitlines()]
    assert {"reward", "entropy"} <= records[-1].keys()
    assert records[0]["kind"] == "before" and records[0]["seconds"] > 0
    spent = read_run(tmp_path).spent()
    assert spent["before_s"] >= records[0]["seconds"]
    assert spent["total_s"] == spent["before_s"] + spent["train_s"] + spent["eval_s"]


def test_fewer_than_no_draws_are_refused(videos: Path, tmp_path: Path) -> None:
    whole = replace(
        job(videos, tmp_path), model="adafocus_small", settings=(), plan=AdaFocusPlan(kept_views=-1)
    )
    with pytest.raises(UsageError, match="views of table: -1 draws of each video are to be kept"):
        train_model(whole)
