"""Every model of the zoo: finite, trainable to the last parameter, re-headed, saved and loaded the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import foveate
from foveate.cli.models import catalogue_row
from foveate.errors import ModelFileError, UsageError
from foveate.measure.cost import count_macs
from foveate.models import zoo
from foveate.models.base import VideoModel
from foveate.models.zoo import MODELS, create_model, list_models
from foveate.train.job import TrainJob, parse_settings, weights_file
from foveate.weights.file import read_card, read_model, save_model
from foveate.weights.load import known_weights, load_model

CLASSES, FRAMES, SIDE = 5, 2, 48


FOCUS = {"size": SIDE, "resize": SIDE, "glance_size": 32, "patch": 32, "frames": FRAMES}
WIDTHS = {"policy_squeeze": 4, "policy_width": 8}
UNI = {"size": SIDE, "resize": SIDE, "glance_size": 32, "patch": 32, "candidates": 4}
UNI_COUNTS = {"glance_frames": 2, "local_frames": 2, "temporal_width": 4, "spatial_width": 4}
TAUGHT_APART = (
    "policy.",
    "skip_policy.",
    "glance_head.",
    "local_head.",
)  # by their own losses: test_focus.py


# Narrow ones of the families whose own tests hold the published sizes.
NARROW: dict[str, dict[str, object]] = {
    "tam_r": {"width": 0.125},
    "tam_mnv2": {"width": 0.25},
    "tsn_r50_8_tpool": {"width": 0.125},
    "blresnet": {"width": 0.125},
    "blvnet": {"width": 0.125},
    "i3d_": {"width": 0.125},
    "slow": {"width": 0.125},
    "fast_": {"width": 0.125},
    "c2d_": {"width": 0.125},
    "x3d_": {"width": 0.5, "depth": 1.0, "hidden": 16},
    "adafocus_v2_r50": {"glance_width": 0.25, "local_width": 0.125},
    "adafocus_v2_tsm": {"glance_width": 0.25, "local_width": 0.125},
    "uni_": UNI | UNI_COUNTS,
    "uni_adafocus_mnv2": {"glance_width": 0.25, "local_width": 0.125, "classifier_width": 8},
    "uni_adafocus_any": {"small_patches": (16,), "classifier_width": 8},
    "uni_adafocus_any_mnv2": {"glance_width": 0.25, "local_width": 0.125},
    "uni_adafocus_tsm": {"glance_width": 0.25, "local_width": 0.125},
    "uni_adafocus_small": {"classifier_width": 8},
    "uni_adafocus_x3d": {"width": 0.5, "glance_depth": 1.0, "local_depth": 1.0, "hidden": 16},
    "arnet": {"widths": (0.125, 0.125, 0.125), "sizes": (SIDE, 44, 40), "glance_size": 36, "resize": SIDE},
}


def frames_of(name: str) -> int:
    """Enough that a change of any frame can reach every parameter: pairs, and pools that halve thrice."""
    if name.endswith("_tpool") and name != "tsm_r50_8_tpool":
        return 16
    if name.startswith("slowfast"):
        return 8  # Fast frames for one Slow frame, or two
    return 4 if name.startswith(("blvnet", "uni_")) else FRAMES


def lengths_of(name: str) -> tuple[int, ...]:
    """Clips of other lengths that a model takes."""
    if name.startswith("slowfast"):
        return (8, 16)
    if name.startswith(("c2d_", "i3d_r", "i3d_nln")):
        return (2, 3)  # they halve them
    return (2, 6) if name.startswith(("blvnet", "uni_")) else (1, 3)


def small(name: str) -> VideoModel:
    torch.manual_seed(0)
    fields: dict[str, object] = {}
    if name.startswith("adafocus"):
        fields = (
            FOCUS | WIDTHS | ({"grid": 5} if not name.startswith(("adafocus_v2", "adafocus_tsm")) else {})
        )
        fields |= {"glance_frames": 2, "local_frames": 2} if "tsm" in name else {"classifier_width": 8}
    for start, narrow in NARROW.items():
        fields |= narrow if name.startswith(start) else {}
    return create_model(name, CLASSES, **fields)


def clip(batch: int = 2, frames: int = FRAMES) -> torch.Tensor:
    return torch.randn(batch, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def apart(name: str, key: str) -> bool:
    """Whether a parameter learns from another loss than that of the logits (AdaFocus, AR-Net)."""
    if name.startswith("arnet"):
        return True  # which networks run is the policy's choice: test_arnet.py
    if name.startswith(
        ("uni_", "adafocus_v2_tsm")
    ):  # its networks and policies learn from losses of their own: test_uni.py, test_focus.py
        answers = ("glance_head.", "local_head.", "local_classifier.", "glance_classifier.embed.")
        return not key.startswith(answers) or ".narrower." in key  # which the full width does without
    if not name.startswith("adafocus"):
        return False
    if name.startswith("adafocus_plus") and key.startswith("local."):
        return True  # an untrained skip policy may leave every patch out
    heads_answer = "tsm" in name and key.startswith(("glance_head.", "local_head."))
    gradient_reaches = name.startswith("adafocus_v2") and key.startswith("policy.")
    return key.startswith(TAUGHT_APART) and not (heads_answer or gradient_reaches)


@pytest.mark.parametrize("name", list_models())
def test_forward_backward_and_file(name: str, tmp_path: Path) -> None:
    model, seen = small(name).train(), clip(frames=frames_of(name))
    logits = model(seen)
    assert logits.shape == (2, CLASSES) and logits.isfinite().all()
    logits.square().sum().backward()
    learning = [(k, p) for k, p in model.named_parameters() if not apart(name, k)]
    silent = [key for key, p in learning if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    model.labels = tuple("abcde")
    save_model(model.eval(), tmp_path / "m.safetensors", {"epochs": 1})
    loaded, card = read_model(tmp_path / "m.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded(seen), model(seen))
    assert (card.name, card.labels, card.spec) == (name, tuple("abcde"), model.spec)
    assert (loaded.name, loaded.labels, loaded.config) == (name, model.labels, model.config)


@pytest.mark.parametrize("name", list_models())
@torch.inference_mode()
def test_multiply_adds_are_those_that_are_counted(name: str) -> None:
    model, seen = small(name).eval(), clip(frames=frames_of(name))
    torch.manual_seed(0)  # where a choice is drawn
    counted = count_macs(model, seen).total
    torch.manual_seed(0)
    assert model.output(seen).macs.sum().item() == counted > 0


@pytest.mark.parametrize("name", list_models())
def test_new_head_and_free_number_of_frames(name: str) -> None:
    model = small(name)
    model.reset_head(7)
    assert model.num_classes == 7 == model.config.num_classes
    with torch.inference_mode():
        for frames in lengths_of(name):
            assert model.eval()(clip(1, frames)).shape == (1, 7)


@pytest.mark.parametrize("name", list_models())
def test_trace_agrees_with_forward(name: str) -> None:
    model, seen = small(name).eval(), clip(frames=frames_of(name))
    with torch.inference_mode():
        assert torch.allclose(model.output(seen).logits, model(seen), atol=1e-5)


def test_channels_last_input_gives_the_same() -> None:
    model, plain = small("tsm_r18_8").eval(), clip()
    decoder_order = plain.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        assert torch.allclose(model(plain), model(decoder_order), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fields", "cause"),
    [
        ("tsm_r10_8", {"shift_div": 0}, "shift_div is 0"),
        ("slowfast_small", {"width": -1}, r"width is -1\.0"),
        ("adafocus_tsm_144", {"local_frames": 0}, "local_frames is 0"),
        ("adafocus_small", {"exits": [-1.0] * 8}, "exits is"),
        ("arnet_small", {"dropout": 2}, r"dropout is 2\.0"),
        ("fullvideo_small", {"strides": [1, 2]}, r"strides: expected 4 values, got \[1, 2\]"),
        ("tsm_r10_8", {"temporal_pool": True, "pool_after": [7]}, r"after stages \[7\]"),
    ],
)
def test_numbers_that_make_no_model_are_one_line(name: str, fields: dict[str, object], cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        create_model(name, **fields)


@pytest.mark.parametrize("name", list_models())
def test_weights_that_are_listed_are_known(name: str) -> None:
    for weights in known_weights(name):
        if not weights.endswith("(by hand)"):
            job = TrainJob(Path("list"), Path("run"), name, weights=weights)
            assert weights_file(job) is None


def test_other_weights_are_a_file_or_refused() -> None:
    job = TrainJob(Path("list"), Path("run"), "tsm_r50_8", weights="runs/mine/best")
    assert weights_file(job) == Path("runs/mine/best")
    with pytest.raises(UsageError, match=r"no weights 'kinetics' are known \(there are kinetics400"):
        weights_file(replace(job, weights="kinetics"))
    for setting in ("num_classes=5", "name=x"):
        with pytest.raises(UsageError, match="is no setting"):
            parse_settings([setting])
    for fields in ({"num_classes": 3}, {"patch": 32}):
        with pytest.raises(UsageError, match="adafocus_small"):
            load_model("adafocus_small", "figures", **fields)


def test_names_and_patterns() -> None:
    assert list_models() == sorted(MODELS)
    assert all(name.startswith("tsm_") for name in list_models("tsm_*"))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("tsm_r5O_8", {}, "tsm_r50_8"),
        ("tsm_r50_8", {"shift_dif": 4}, "shift_div"),
        ("tsm_r50_8", {"temporal": "sideways"}, "sideways"),
        ("tsm_r50_8", {"frames": "8"}, "expected int"),
        ("tsm_mnv2_8", {"temporal_pool": True}, "ResNets"),
        ("tsm_r50_8", {"size": 300}, "smaller than the crop"),
    ],
)
def test_wrong_requests_name_the_cause(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(name, **fields)


def damaged(good: bytes, kind: str) -> bytes:
    size = int.from_bytes(good[:8], "little")
    return {
        "empty": b"",
        "text": b"these are not weights",
        "cut": good[: len(good) // 2],
        "long": good + b"more",
        "huge header": (1 << 62).to_bytes(8, "little") + good[8:],
        "duplicate key": (size + 6).to_bytes(8, "little")
        + b'{"a":1,"a":2,'
        + good[9 : 8 + size]
        + good[8 + size :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "long", "huge header", "duplicate key"])
def test_damaged_files_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(small("tsn_r10_8"), path)
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(ModelFileError, match=r"m\.safetensors"):
        read_model(path)


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    model = small("tsn_r10_8")
    with torch.no_grad():
        next(model.parameters()).view(-1)[3] = float("nan")
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="not finite"):
        read_model(tmp_path / "m.safetensors")


def test_files_from_before_a_field_was_renamed(tmp_path: Path) -> None:
    path, model = tmp_path / "m.safetensors", small("tsm_r10_8")
    model.config = replace(model.config, temporal="past")
    save_model(model, path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(rb"\"temporal\": \"past\"", rb"\"shift\": \"both\"")
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    assert read_model(path)[0].config.temporal == "shift"


def test_the_spec_travels_in_the_file(tmp_path: Path) -> None:
    model = small("tsn_r10_8")
    model.spec = replace(model.spec, frames=3, size=80, resize=80)
    save_model(model, tmp_path / "m.safetensors")
    assert read_card(tmp_path / "m.safetensors").spec == model.spec


CATALOGUE = {
    row["name"]: row for row in json.loads((Path(zoo.__file__).parent / "catalogue.json").read_text())
}


def test_the_catalogue_has_every_model() -> None:
    assert list(CATALOGUE) == list_models(), "run docs/make_tables.py"


@pytest.mark.parametrize("name", list_models())
def test_the_catalogue_tells_the_truth(name: str) -> None:
    assert catalogue_row(name) == CATALOGUE.get(name), "run docs/make_tables.py"


def test_models_as_timm_makes_them(tmp_path: Path) -> None:
    extractor = foveate.create_model("tsm_r10_8", num_classes=0)
    assert extractor(torch.randn(1, 3, 4, 32, 32)).shape == (1, extractor.model.head.channels)
    model = foveate.create_model("adafocus_small", 3, pretrained=True)
    assert model.num_classes == 3 and not model.labels
    assert foveate.create_model("adafocus_small", pretrained=True).labels
    with pytest.raises(UsageError, match="no weights by name"):
        foveate.create_model("slow_small", pretrained=True)
    assert foveate.list_models("adafocus_v2") == foveate.list_models("adafocus_v2*")
    assert set(foveate.list_models(pretrained=True)) < set(foveate.list_models())


def test_a_run_folder_is_a_model(tmp_path: Path) -> None:
    save_model(create_model("slow_small").eval(), tmp_path / "best.safetensors")
    assert load_model(tmp_path).name == "slow_small"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"holds no best\.safetensors"):
        load_model(tmp_path / "empty")
