"""Official files: containers, origins told by their keys, refusals; and models that start from others."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import torch

from foveate import load_model
from foveate.cli import main
from foveate.errors import ModelFileError, UsageError
from foveate.models.zoo import create_model
from foveate.weights import convert, load_official
from foveate.weights.file import read_model
from foveate.weights.origins import find_origin
from foveate.weights.start import start_from, start_part
from parity_cases import CASES, ParityCase


def official(classes: int = 3) -> dict[str, torch.Tensor]:
    """A state dict as the TSM release would write it for a small ResNet."""
    state = create_model("tsm_r18_8", classes).state_dict()
    names = {"backbone.": "module.base_model.", "head.linear.": "module.new_fc."}
    renamed = {}
    for key, value in state.items():
        ours = next(prefix for prefix in names if key.startswith(prefix))
        theirs = names[ours] + key.removeprefix(ours)
        renamed[theirs.replace(".conv1.weight", ".conv1.net.weight") if ".layer" in theirs else theirs] = (
            value
        )
    return renamed


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_released_file_is_read_whole(wrapped: bool, tmp_path: Path) -> None:
    state = official()
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, tmp_path / "m.pth")
    model = load_official(tmp_path / "m.pth", "tsm_r18_8")
    assert model.num_classes == 3
    assert torch.equal(model.state_dict()["head.linear.weight"], state["module.new_fc.weight"])


@pytest.mark.parametrize("name", [n for n, how in CASES.items() if "origin" in how and "fier" not in n])
def test_the_origin_is_told_by_the_keys(name: str) -> None:
    case = ParityCase(name)
    state = dict.fromkeys((key for key, _, _ in case.info["state_dict"]), torch.zeros(()))
    origin = find_origin(state, Path("x"))
    assert origin.name == case.how["origin"] or {origin.name, case.how["origin"]} == {"torchvision", "ibm"}
    ours = create_model(case.how["name"], case.how["num_classes"], **case.how.get("fields", {}))
    assert origin.rename(state, "x").keys() <= ours.state_dict().keys()


def test_missing_left_over_and_misshapen_keys_are_named() -> None:
    state = official()
    del state["module.base_model.bn1.weight"]
    state["module.base_model.extra"] = torch.zeros(1)
    with pytest.raises(ModelFileError, match=r"missing backbone\.bn1\.weight; left over extra"):
        convert(state, "tsm", "tsm_r18_8", 3)
    with pytest.raises(ModelFileError, match=r"head\.linear\.weight is \[3, 512\], wanted \[5, 512\]"):
        convert(official(), "tsm", "tsm_r18_8", 5)


def test_another_model_is_refused(tmp_path: Path) -> None:
    torch.save(official(), tmp_path / "m.pth")
    with pytest.raises(ModelFileError, match=r"m\.pth.*missing"):
        load_official(tmp_path / "m.pth", "tsm_r50_8")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/tmp/foveate-bomb-went-off"),))


@pytest.mark.parametrize("kind", ["bomb", "gzip", "html", "empty", "cut", "list", "missing"])
def test_what_is_no_checkpoint_is_refused_and_nothing_runs(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save(official(), path)
    whole = path.read_bytes()
    content = {
        "bomb": pickle.dumps({"state_dict": Bomb()}),
        "gzip": gzip.compress(whole[:1000]),
        "html": b"<!doctype html>",
        "empty": b"",
        "cut": whole[: len(whole) // 2],
    }
    if kind == "list":
        torch.save([1, 2], path)
    elif kind == "missing":
        path.unlink()
    else:
        path.write_bytes(content[kind])
    with pytest.raises(ModelFileError, match=r"m\.pth"):
        load_official(path, "tsm_r18_8")
    assert not Path("/tmp/foveate-bomb-went-off").exists()


def test_an_adafocus_file_of_stage_1_has_no_policy() -> None:
    case = ParityCase("adafocus/actnet_pipeline_p96_t4")
    state = {key: value for key, value in case.state_dict().items() if ".policy." not in key}
    with pytest.raises(ModelFileError, match=r"holds no policy .*policy=random"):
        convert(state, "adafocus", "adafocus_mnv2_r50_96", 200)
    assert convert(state, "adafocus", "adafocus_mnv2_r50_96", 200, policy="random").policy is None


def test_adafocus_tsm_finds_its_policy_beside_the_model(tmp_path: Path) -> None:
    case = ParityCase("adafocus/tsm_pipeline_p144")
    state = case.state_dict()
    policy = {key.removeprefix("policy."): value for key, value in state.items() if key.startswith("policy.")}
    rest = {key: value for key, value in state.items() if not key.startswith("policy.")}
    torch.save({"model_state_dict": rest, "policy": policy}, tmp_path / "m.pth")
    model = load_official(tmp_path / "m.pth", "adafocus_tsm_144")
    assert torch.equal(model.policy.actor.weight, state["policy.actor.0.weight"])


@torch.inference_mode()
def test_an_adafocus_tsm_file_of_a_policy_with_a_grid(tmp_path: Path) -> None:
    """Its actor has an output for each of n x n positions, of which the largest is taken, row by row."""
    state = ParityCase("adafocus/tsm_pipeline_p144").state_dict()
    state["policy.actor.0.weight"] = torch.zeros(25, 1024)
    state["policy.actor.0.bias"] = torch.eye(25)[13]
    torch.save(state, tmp_path / "m.pth")
    model = load_official(tmp_path / "m.pth", "adafocus_tsm_144_grid", grid=5)
    assert torch.equal(model.policy.actor.bias, state["policy.actor.0.bias"])
    corners, _ = model.choose_place(torch.randn(1, 8, 1280, 7, 7))
    assert corners.tolist() == [[[2 * 80 // 4, 3 * 80 // 4]]]
    with pytest.raises(ModelFileError, match=r"policy\.actor"):
        load_official(tmp_path / "m.pth", "adafocus_tsm_144_grid")


def test_an_adafocus_tsm_file_of_stage_1_has_no_policy(tmp_path: Path) -> None:
    state = ParityCase("adafocus/tsm_pipeline_p144").state_dict()
    rest = {key: value for key, value in state.items() if not key.startswith("policy.")}
    path, out = tmp_path / "m.pth", tmp_path / "m.safetensors"
    torch.save({"model_state_dict": rest, "policy": None}, path)
    with pytest.raises(ModelFileError, match=r"holds no policy .*policy=random"):
        load_official(path, "adafocus_tsm_144")
    words = ["convert", path, "--name", "adafocus_tsm_144", "--settings", "policy=random", "--out", out]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    assert ended.value.code == 0
    model = read_model(out)[0]
    assert model.policy is None
    assert torch.equal(model.local_head.weight, state["classifier.weight"])


@pytest.mark.parametrize(("labels", "keeps"), [(("a", "b"), True), (("a", "c"), False), ((), False)])
def test_start_from_keeps_the_classifier_for_the_same_classes_only(
    labels: tuple[str, ...], keeps: bool
) -> None:
    torch.manual_seed(0)
    source, model = create_model("tsn_r10_8", 2), create_model("tsm_r10_8", 2)
    source.labels, model.labels = ("a", "b"), labels
    start_from(model, source)
    assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    assert torch.equal(model.head.linear.weight, source.head.linear.weight) is keeps


def test_start_from_another_shape_is_refused() -> None:
    with pytest.raises(ModelFileError, match="differ in"):
        start_from(create_model("tsn_r18_8", 2), create_model("tsn_r10_8", 2))


def test_imagenet_fills_the_networks_of_a_focus_model() -> None:
    model = load_model("adafocus_lite0_r18_128", weights="imagenet")
    donor = load_model("tsn_lite0_8", weights="imagenet")
    assert torch.equal(model.glance.stem.conv.weight, donor.backbone.stem.conv.weight)
    model = load_model("adafocus_lite0_r18_128", "imagenet", glance_temporal="aggregation")
    ours, theirs = model.glance.state_dict(), donor.backbone.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert ours.keys() - theirs.keys() == {key for key in ours if ".temporal." in key} != set()
    with pytest.raises(UsageError, match="no packaged ImageNet weights"):
        load_model("adafocus_mnv2_r50_128", weights="imagenet")


PARTS = {"glance": "resnet18", "local": "resnet10", "glance_width": 0.25, "glance_temporal": "aggregation"}


def test_one_network_of_several_starts_from_a_model_of_its_own() -> None:
    model = create_model("adafocus_mnv2_r50_128", 3, **PARTS)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    image = create_model("tsn_r18_8", 1000, width=0.25)
    start_part(model, "glance", image)
    for key, value in model.state_dict().items():
        mixes = ".temporal." in key  # which an image network has not
        given = key.startswith("glance.") and not mixes
        wanted = image.state_dict()[f"backbone.{key.removeprefix('glance.')}"] if given else before[key]
        assert torch.equal(value, wanted), key


@pytest.mark.parametrize(
    ("part", "donor", "kind", "message"),
    [
        ("nets.0", "tsn_r18_8", UsageError, "nets.0: is no network of adafocus_.*it has glance, local"),
        ("policy", "tsn_r18_8", UsageError, "policy: is no network"),
        ("local", "tsn_r18_8", ModelFileError, "differ in layer1.1"),
        ("local", "slow_small", ModelFileError, "no backbone to copy"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(
    part: str, donor: str, kind: type[Exception], message: str
) -> None:
    model = create_model("adafocus_mnv2_r50_128", 3, **PARTS)
    with pytest.raises(kind, match=message):
        start_part(model, part, create_model(donor, 2))


@pytest.mark.parametrize("taps", [2, 3, 5])
def test_ibm_names_three_taps_and_numbers_others(taps: int, tmp_path: Path) -> None:
    fields = {"width": 0.125, "aggregation": {"taps": taps}}
    model = create_model("tam_r18_8", 3, **fields)
    named = {3: ["prev_se", "curr_se", "next_se"]}.get(taps, [f"blending_layers.{i}" for i in range(taps)])

    def theirs(key: str) -> str:
        block, _, place = key.partition(".temporal.weights.")
        key = f"{block}.tam.{named[int(place)]}.fc1.weight" if place else key
        return key.replace("head.linear.", "fc.").removeprefix("backbone.")

    torch.save({theirs(key): value for key, value in model.state_dict().items()}, tmp_path / "m.pth")
    assert find_origin(torch.load(tmp_path / "m.pth"), tmp_path).name == "ibm"
    read = load_official(tmp_path / "m.pth", "tam_r18_8", **fields).state_dict()
    assert all(torch.equal(value, read[key]) for key, value in model.state_dict().items())
