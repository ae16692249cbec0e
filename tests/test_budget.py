"""One budget: what can be set, what it costs, how it is solved, kept, asked for and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from foveate.cli import main
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import ModelFileError, UsageError
from foveate.infer.artefacts import ArtefactStore
from foveate.infer.budget import BudgetDial, curve_of
from foveate.infer.engine import EagerEngine, open_engine, with_parts
from foveate.infer.predict import Predictor
from foveate.measure.cost import count_macs
from foveate.models.base import VideoModel
from foveate.models.budget import Budget, Curve, Point, parse_budget
from foveate.models.dials import CountDial, ExitDial, PriceDial
from foveate.models.zoo import MODELS, create_model, create_outline
from foveate.train.budget import solve_curve
from foveate.train.evaluate import score
from foveate.weights.file import read_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, FRAMES, VIDEOS = 32, 4, 16
NETS: dict[str, Any] = {
    "frames": FRAMES, "size": SIDE, "resize": SIDE, "glance_size": 16, "patch": 16,
    "policy_width": 8, "policy_squeeze": 2, "classifier_width": 8,
}  # fmt: skip
TSM = {"frames": FRAMES, "size": SIDE, "resize": SIDE, "width": 0.25}
CURVE = Curve(
    "exits",
    "top1",
    10,
    (Point(0.25, 1.0, 0.5, (0.0, 0.0)), Point(0.5, 2.0, 0.7, (0.8, 0.0)), Point(1.0, 4.0, 0.8, (1.01, 0.0))),
)


def focus(name: str = "adafocus_small", **fields: Any) -> VideoModel:
    """An untrained model, whose answers are made to differ in how sure they are."""
    torch.manual_seed(0)
    model = create_model(name, 2, **NETS | fields).eval()
    model.labels = ("dark", "light")
    return model


def other(name: str) -> VideoModel:
    fields: dict[str, dict[str, Any]] = {
        "tsm_r10_8": TSM,
        "blvnet_small": {"frames": 8, "size": SIDE, "resize": SIDE},
        "fullvideo_small": {"frames": 8, "clusters": 4, "size": SIDE, "resize": SIDE},
        "arnet_small": {"frames": FRAMES, "sizes": (64, 48, 32), "glance_size": 32, "resize": 64},
        "adafocus_tsm_144": {
            "glance": "resnet10", "local": "resnet10", "frames": 8, "glance_frames": 4, "local_frames": 4,
            "size": SIDE, "resize": SIDE, "glance_size": SIDE, "patch": 16, "glance_width": 0.25,
            "local_width": 0.25, "policy_width": 8, "policy_squeeze": 2,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    return create_model(name, 2, **fields[name]).eval()


OTHERS = ("tsm_r10_8", "blvnet_small", "fullvideo_small", "arnet_small", "adafocus_tsm_144")


def clips_of(model: VideoModel, count: int = 2) -> torch.Tensor:
    spec, numbers = model.spec, torch.Generator().manual_seed(1)
    shape = (count, spec.frames, spec.size, spec.size, 3)
    return torch.randint(0, 256, shape, generator=numbers, dtype=torch.uint8)


def loader_of(model: VideoModel, count: int = 40) -> Any:
    """What gives batches of labelled clips, as often as it is called."""
    clips = clips_of(model, count)
    clips[:, :, : model.spec.size // 2] //= torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1, 1)
    labels = torch.arange(count) % 2

    def batches() -> Iterator[Any]:
        for first in range(0, count, 20):
            part = slice(first, first + 20)
            frames = clips[part].unsqueeze(1)
            yield SimpleNamespace(
                frames=frames, labels=labels[part], indices=torch.arange(count)[part], bad=[]
            )

    return batches


# ---- a budget in words, and a place on a curve


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("0.3", Budget(0.3)), (0.3, Budget(0.3)), (1, Budget(1.0)), ("9G", Budget(9.0, "G")),
        ("0.5 G", Budget(0.5, "G")), ("40ms", Budget(40.0, "ms")), ("1e-1", Budget(0.1)),
    ],
)  # fmt: skip
def test_a_budget_is_read(text: str | float, budget: Budget) -> None:
    assert parse_budget(text) == budget == parse_budget(budget)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("1.1", "more than the full cost"), ("0", "no positive number"), ("-2G", "no positive number"),
        ("nan", "no positive number"), ("inf", "no positive number"), (float("nan"), "no positive number"),
        ("9M", "is no budget"), ("40s", "is no budget"), ("", "is no budget"), ("1.2.3", "is no budget"),
        ("30%", "is no budget"), ("9g", "is no budget"), ("9" * 999, "positive"), ("ms", "is no budget"),
    ],
)  # fmt: skip
def test_what_is_no_budget_is_one_line(text: str | float, cause: str) -> None:
    with pytest.raises(UsageError, match=cause) as raised:
        parse_budget(text)
    assert "0.3" in raised.value.hint and "9G" in raised.value.hint and len(str(raised.value)) < 250


def test_a_place_on_the_curve() -> None:
    dial = ExitDial(2)
    assert CURVE.share_of(Budget(0.3)) == 0.3
    assert CURVE.share_of(Budget(3.0, "G")) == 0.75
    assert CURVE.share_of(Budget(100.0, "G")) == 1.0
    assert CURVE.at(0.25, dial) == (0.0, 0.0)
    assert CURVE.at(0.375, dial) == pytest.approx((0.4, 0.0))
    assert CURVE.at(1.0, dial) == dial.full
    for budget, least in ((Budget(0.2), "0.25"), (Budget(0.5, "G"), "1G"), (Budget(1.0, "ms"), "10ms")):
        with pytest.raises(UsageError, match=f"below the model's least, {least}"):
            CURVE.share_of(budget, (10.0, 20.0, 40.0))
    assert CURVE.share_of(Budget(0.2499)) == 0.25  # a table rounds


@pytest.mark.parametrize(
    ("milliseconds", "amount", "share"),
    [
        ((10.0, 20.0, 40.0), 15.0, 0.375),
        ((10.0, 20.0, 40.0), 99.0, 1.0),
        ((10.0, 60.0, 40.0), 45.0, 1.0),  # in one pass the whole clip may be quicker than most of it in steps
        ((10.0, 60.0, 40.0), 35.0, 0.375),
    ],
)
def test_a_time_is_the_dearest_setting_that_keeps_to_it(
    milliseconds: Any, amount: float, share: float
) -> None:
    assert CURVE.share_of(Budget(amount, "ms"), milliseconds) == pytest.approx(share)


# ---- what can be set


def test_every_model_has_a_dial_or_says_that_it_has_none() -> None:
    kinds: dict[Any, str] = {}
    for name, spec in MODELS.items():
        config = spec.config
        kinds.setdefault((type(config), getattr(config, "glance_temporal", "")), name)
    found = set()
    for name in kinds.values():
        model = create_outline(name)
        with pytest.raises(UsageError) as raised:
            curve_of(model)
        dial = model.dial
        found.add(dial and dial.name)
        if dial is None:
            assert raised.value.cause == f"{name} has nothing that could be set to cost less"
            with pytest.raises(ValueError, match="nothing to set"):
                model.turn((1.0,))
            continue
        assert raised.value.cause == f"{name} has no curve of accuracy against cost"
        settings = dial.settings(8)
        for setting in (*settings, dial.full, dial.steady(dial.full, 0.4)):
            dial.check(setting)
        assert len(settings) == len({*settings}) <= 8 and (not settings or settings[-1] == dial.full)
    assert found == {None, "exits", "looks", "frames", "clusters", "local_frames", "price"}


@pytest.mark.parametrize("dial", [ExitDial(16), CountDial("frames", 16, 2), PriceDial()])
def test_between_two_settings_all_can_be_set(dial: Any) -> None:
    low = dial.settings(8)[0] if dial.settings(8) else (0.1,) * 15 + (0.0,)
    for part in np.linspace(0, 1, 101):
        dial.check(dial.between(low, dial.full, float(part)))
    for wrong in (
        (),
        (float("nan"),) * len(low),
        (-1.0,) * len(low),
        (float("nan"), *low[1:]),
        (1e9,) * len(low),
        (*low, *low),
    ):
        with pytest.raises(ValueError, match=r"possible|do not fit"):
            dial.check(wrong)


@pytest.mark.parametrize("name", OTHERS)
def test_a_cheaper_setting_computes_less_and_none_is_as_before(name: str) -> None:
    model = other(name)
    dial, clips = model.dial, clips_of(model)
    assert dial is not None
    settings, engine = dial.settings(4), EagerEngine(model)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    before = engine.run(clips)
    costs = []
    for setting in settings:
        model.turn(setting)
        output = engine.run(clips)
        assert output.macs is not None
        costs.append(float(output.macs.double().mean()))
        with torch.inference_mode():
            one = model.prepare(clips[:1])
            assert count_macs(model, one).total == int(model.output(one).macs)  # type: ignore[arg-type]
            assert torch.allclose(model(one), model.output(one).logits, atol=1e-6)
    assert costs == sorted(costs) and costs[0] < 0.9 * costs[-1]
    assert torch.equal(output.logits, before.logits) and torch.equal(output.frames_read, before.frames_read)
    model.turn(settings[0])
    assert torch.equal(model.train().prepare(clips[:1])[0], model.eval().prepare(clips[:1])[0])
    model.turn(None)
    assert torch.equal(engine.run(clips).logits, before.logits)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_training_knows_no_budget() -> None:
    model = other("tsm_r10_8")
    model.turn((1.0,))
    assert model.setting == (1.0,) and model.train().setting is None


@pytest.mark.parametrize("name", ["tsm_r10_8", "fullvideo_small", "arnet_small"])
def test_a_setting_reaches_an_engine_that_compiled_before(name: str) -> None:
    model = other(name)
    assert model.dial is not None
    twins = {part: getattr(model, part) for part in model.parts}
    engine, clips = EagerEngine(with_parts(model, twins)), clips_of(model)
    full = engine.run(clips)
    model.turn(model.dial.settings(4)[0])
    cheap, plain = engine.run(clips), EagerEngine(model).run(clips)
    assert torch.equal(cheap.logits, plain.logits) and (cheap.macs < full.macs).all()  # type: ignore[operator]


def test_compiled_parts_stay_when_the_price_changes() -> None:
    pytest.importorskip("openvino")
    model = other("arnet_small")
    engine, plain, clips = open_engine(model, "openvino"), EagerEngine(model), clips_of(model)
    made = []
    for price in (1.0, 20.0, 3.0):
        model.turn((price,))
        ours, theirs = engine.run(clips), plain.run(clips)
        assert torch.equal(ours.sizes, theirs.sizes)  # type: ignore[arg-type]
        made.append(engine.store.made)  # type: ignore[attr-defined]
    assert made[-1] <= made[0] + 2  # a network that a price chooses for the first time


# ---- solved


@pytest.mark.parametrize(
    ("name", "fields"),
    [("adafocus_small", {}), ("adafocus_v2_small", {}), ("adafocus_small", {"frames": 8, "exit_group": 3})],
)
def test_thresholds_cost_what_was_asked_for(name: str, fields: dict[str, Any]) -> None:
    model = focus(name, **fields)
    engine, loader, frames = EagerEngine(model), loader_of(model), model.spec.frames
    before = engine.run(clips_of(model)).logits
    curve = solve_curve(engine, loader, points=6)
    assert model.setting is None and torch.equal(engine.run(clips_of(model)).logits, before)
    shares = [point.share for point in curve.points]
    group = fields.get("exit_group", 1)
    assert shares == sorted(shares) and shares[0] == pytest.approx(group / frames) and shares[-1] == 1
    for place, point in enumerate(curve.points):
        asked = shares[0] + (1 - shares[0]) * place / 5
        assert asked - group / frames <= point.share <= asked + 1e-9
        model.turn(point.setting)
        scored = score(engine, loader())
        assert float(scored.macs.mean()) == pytest.approx(point.gmacs * 1e9)
        assert float((scored.scores.argmax(1) == scored.labels).double().mean()) == point.accuracy
    assert len(curve.points) == 6


def test_what_it_costs_to_answer_after_each_frame() -> None:
    """Stopping there costs as much as was said when everything was read, with skipped patches too."""
    model = focus(skip=True, policy="learned")
    engine, clips = EagerEngine(model), clips_of(model)
    said = engine.run(clips).step_macs
    assert said is not None
    for frames in range(1, FRAMES + 1):
        model.turn((1.01,) * (frames - 1) + (0.0,) * (FRAMES - frames + 1))
        output = engine.run(clips)
        assert output.macs is not None and torch.equal(output.macs, said[:, frames - 1])
        assert (output.frames_read.sum(1) == frames).all()


@pytest.mark.parametrize("name", ["tsm_r10_8", "arnet_small"])
def test_any_other_model_runs_at_each_setting(name: str) -> None:
    model = other(name)
    engine, loader = EagerEngine(model), loader_of(model, 20)
    curve = solve_curve(engine, loader, points=3)
    assert curve.dial == ("frames" if name == "tsm_r10_8" else "price") and curve.videos == 20
    assert 2 <= len(curve.points) <= 3 and curve.points[-1].share == 1
    model.turn(curve.points[0].setting)
    assert float(score(engine, loader()).macs.mean()) == pytest.approx(curve.points[0].gmacs * 1e9)
    with pytest.raises(UsageError, match="--points"):
        solve_curve(engine, loader, points=1)


# ---- kept in the file


def test_a_file_keeps_the_curve(tmp_path: Path) -> None:
    model = focus()
    save_model(model, tmp_path / "plain.safetensors")
    assert read_model(tmp_path / "plain.safetensors")[0].curve is None
    assert "curve" not in header_of(tmp_path / "plain.safetensors")  # earlier versions read it
    model.curve = solve_curve(EagerEngine(model), loader_of(model), 4)
    save_model(model, tmp_path / "m.safetensors", {"epochs": 3})
    again, card = read_model(tmp_path / "m.safetensors")
    assert again.curve == model.curve and card.training == {"epochs": 3} and again.setting is None


def header_of(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["foveate"])


def written_with(path: Path, **curve: Any) -> Path:
    """A model file whose curve says this."""
    model = focus()
    save_model(model, path)
    points = [
        {"share": 0.5, "gmacs": 1.0, "accuracy": 0.5, "setting": [0.5] * (FRAMES - 1) + [0.0]},
        {"share": 1.0, "gmacs": 2.0, "accuracy": 0.6, "setting": [1.01] * (FRAMES - 1) + [0.0]},
    ]
    good = {"dial": "exits", "measure": "top1", "videos": 10, "points": points}
    for field in {*curve} - {*good}:  # of the first point
        points[0][field] = curve.pop(field)
    header = header_of(path) | {"curve": good | curve}
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors.torch.save_file(state, path, {"foveate": json.dumps(header)})
    return path


def test_the_curve_that_the_next_test_damages_is_good(tmp_path: Path) -> None:
    curve = read_model(written_with(tmp_path / "m.safetensors"))[0].curve
    assert curve is not None and len(curve.points) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dial": "frames"}, "which the model cannot set"),
        ({"dial": "x" * 9999}, "which the model cannot set"),
        ({"dial": 3}, "expected str"),
        ({"points": []}, "0 points"),
        ({"points": [{}] * 3}, "curve"),
        ({"points": "many"}, "expected a list"),
        ({"videos": 1.5}, "expected int"),
        ({"setting": [0.5] * 5000}, "5000 values"),
        ({"setting": [0.5] * (FRAMES - 1)}, "do not fit 4 frames"),
        ({"setting": [-1.0] * (FRAMES - 1) + [0.0]}, "do not fit 4 frames"),
        ({"setting": [0.5] * FRAMES}, "do not fit 4 frames"),
        ({"setting": []}, "0 values"),
        ({"share": float("nan")}, "not a finite number"),
        ({"share": 0.0}, "outside of what is possible"),
        ({"share": 1.0}, "do not rise"),
        ({"gmacs": 1e999}, "not a finite number"),
        ({"gmacs": -1.0}, "outside of what is possible"),
        ({"gmacs": True}, "expected float"),
        ({"gmacs": 10**400}, "not a finite number"),
        ({"accuracy": 2.0}, "outside of what is possible"),
    ],
)
def test_a_hostile_curve_is_refused(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written_with(tmp_path / "m.safetensors", **wrong)
    with pytest.raises(ModelFileError, match=words) as raised:
        read_model(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 400


def test_a_curve_of_many_points_is_refused() -> None:
    with pytest.raises(ValueError, match="65 points"):
        replace(CURVE, points=CURVE.points[:1] * 65)


# ---- asked for


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sub-folder of H.264 videos for each of two classes."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for number in range(VIDEOS):
        place = folder / ("dark", "light")[number % 2] / f"{number}.mp4"
        place.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 100 + 4 * number, (8, SIDE, SIDE, 3)) + 60 * (number % 2)
        place.write_bytes(encode_h264(pixels.astype(np.uint8), 8, 18))
    return folder


def said(capsys: Any, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return (int(ended.value.code or 0), *capsys.readouterr())


def test_the_command_makes_a_curve_and_the_others_use_it(listed: Path, tmp_path: Path, capsys: Any) -> None:
    model, video = tmp_path / "m.safetensors", listed / "dark" / "0.mp4"
    save_model(focus(), model)
    eager = ("--engine", "eager")
    code, out, err = said(capsys, "predict", video, "--model", model, "--budget", 0.5, *eager)
    assert (code, out) == (2, "") and "no curve" in err and "`foveate budget MODEL LIST`" in err
    code, out, _ = said(capsys, "budget", model, listed, "--points", 4, "--workers", 0, "--json", *eager)
    table = json.loads(out)
    rows = table["points"]
    assert code == 0 and table["out"] == str(model) and table["videos"] == VIDEOS and len(rows) >= 3
    assert rows[-1]["budget"] == 1 and all(row["ms"] > 0 for row in rows)
    asked = ("--model", model, "--workers", 0, "--json", *eager)
    for row in rows[:2]:
        _, out, err = said(capsys, "eval", listed, *asked, "--budget", f"{row['gmacs']}G")
        found = json.loads(out)
        assert found["gmacs_per_view"] == pytest.approx(row["gmacs"]) and found["top1"] == row["top1"]
        assert "of the full cost" in err
    _, out, _ = said(capsys, "predict", video, "--model", model, "--budget", 0.25, "--json", *eager)
    assert json.loads(out)["cost"]["frames_used"] == 1
    code, out, _ = said(capsys, "predict", video, "--model", model, "--budget", "10000ms", "--json", *eager)
    assert code == 0 and json.loads(out)["cost"]["frames_used"] == FRAMES
    page = tmp_path / "r.html"
    said(capsys, "eval", listed, *asked, "--budget", 0.5, "--report", page)
    assert "against the share of the full cost" in page.read_text()
    for budget, cause in (
        (0.1, "the model's least, 0.25"),
        ("1e-9ms", "the model's least"),
        (2, "full cost"),
    ):
        code, out, err = said(capsys, "predict", video, "--model", model, "--budget", budget, *eager)
        assert (code, out) == (2, "") and cause in err and err.count("\n") <= 2


def test_a_table_for_people_in_another_file(listed: Path, tmp_path: Path, capsys: Any) -> None:
    model, out_file = tmp_path / "m.safetensors", tmp_path / "with curve.safetensors"
    torch.manual_seed(0)
    tsm = create_model("tsm_r10_8", 2, **TSM)
    tsm.labels = ("dark", "light")
    save_model(tsm.eval(), model, {"epochs": 3})
    before = model.read_bytes()
    words = ("budget", model, listed, "--points", 3, "--out", out_file, "--workers", 0, "--engine", "eager")
    code, out, _ = said(capsys, *words)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == ["budget", "GMACs", "ms", "top1"] and "16 videos, frames" in out
    assert f"--model '{out_file}' --budget" in lines[-1]
    assert model.read_bytes() == before and read_model(out_file)[1].training == {"epochs": 3}


def test_what_cannot_be_measured_is_one_line(listed: Path, tmp_path: Path, capsys: Any) -> None:
    plain = tmp_path / "slow.safetensors"
    torch.manual_seed(0)
    slow = create_model("slow_small", 2)
    slow.labels = ("dark", "light")
    save_model(slow.eval(), plain)
    for words, code, cause in (
        (("budget", "adafocus_small", listed), 2, "--out"),
        (("budget", plain, listed, "--workers", 0), 2, "slow_small: has nothing that could be set"),
        (("budget", plain, listed, "--points", 1), 2, "--points: is 1"),
        (("budget", plain, listed, "--out", tmp_path / "m.pt"), 2, "does not end in .safetensors"),
        (("predict", listed, "--model", plain, "--budget", "0.5"), 2, "nothing that could be set"),
    ):
        ended, _, err = said(capsys, *words)
        assert ended == code and cause in err.splitlines()[-1], err


def test_all_rows_of_a_batch_have_one_budget(listed: Path, tmp_path: Path, capsys: Any) -> None:
    path, out = written_with(tmp_path / "m.safetensors"), tmp_path / "rows"
    words = ("batch", listed, "--model", path, "--out", out, "--format", "jsonl", "--workers", 1)
    words = (*words, "--engine", "eager", "--budget")
    code, _, err = said(capsys, *words, "40ms")
    assert code == 2 and "differs from one run to the next" in err
    assert said(capsys, *words, "0.5")[0] == 0
    rows = [json.loads(line) for part in sorted(out.glob("part-*.jsonl")) for line in part.open()]
    assert len(rows) == VIDEOS
    code, _, err = said(capsys, *words, "0.9")
    assert code == 2 and re.search("another job: setting", err)


def test_a_server_sets_a_budget_before_each_prediction(listed: Path) -> None:
    """What is read follows what the model needs, and no setting outlives the next."""
    model = other("tsm_r10_8")
    model.curve = solve_curve(EagerEngine(model), loader_of(model, 20), points=4)
    predictor, video = Predictor(model), str(listed / "dark" / "0.mp4")
    full = predictor.predict(video)
    assert predictor.set_budget(model.curve.points[0].share) == model.curve.points[0].share
    cheap = predictor.predict(video)
    assert cheap.cost.frames_used == 1 and cheap.cost.gmacs == pytest.approx(model.curve.points[0].gmacs)
    assert Predictor(other("tsm_r10_8")).set_budget(None) is None
    predictor.set_budget(1.0)
    assert predictor.predict(video).predictions == full.predictions
    opened = Predictor(model, budget=model.curve.points[1].share)
    assert opened.predict(video).cost.frames_used == 2
    opened.set_budget(None)
    assert opened.predict(video).predictions == full.predictions
    with pytest.raises(UsageError, match="below the model's least"):
        predictor.set_budget(0.01)


def test_times_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = focus()
    model.curve = solve_curve(EagerEngine(model), loader_of(model), points=3)
    engine = EagerEngine(model)
    first = BudgetDial(engine).milliseconds()
    assert len(first) == len(model.curve.points) and min(first) > 0 and model.setting is None
    monkeypatch.setattr(engine, "run", None)  # which would fail
    assert BudgetDial(engine).milliseconds() == first
    share = BudgetDial(engine).set(f"{max(first)}ms")
    assert share is not None and 0 < share <= 1 and any(ArtefactStore().folder.iterdir())


def test_a_printed_cost_is_that_of_its_point() -> None:
    dial = CountDial("frames", 64)
    points = [Point(count / 64, count * 0.0123456789, 0.5, (count,)) for count in range(1, 65)]
    curve = Curve("frames", "top1", 9, tuple(points))
    for point in points:
        for printed in (f"{point.share:.4g}", f"{point.gmacs:.4g}G"):
            share = curve.share_of(parse_budget(printed))
            assert curve.at(share, dial) == point.setting
    assert curve.at(9.8 / 64, dial) == (9,)  # a budget is not exceeded
