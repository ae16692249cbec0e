"""Optical flow as input: folders of it, which flows make a stack, models and weights that read it."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.clip import ClipSpec
from foveate.data.check import Job, check_video, usable
from foveate.data.dataset import VideoDataset
from foveate.data.lists import VideoEntry, VideoList, read_list
from foveate.data.stretch import frame_range
from foveate.errors import DataError, ModelFileError, UsageError
from foveate.export.check import check_export
from foveate.export.write import export_model
from foveate.infer.choice import a_clip
from foveate.infer.engine import EagerEngine, clip_shape
from foveate.infer.live import open_live
from foveate.infer.predict import Predictor
from foveate.infer.read import ClipReader
from foveate.layers.normalise import to_clip
from foveate.models.zoo import create_model, create_outline
from foveate.report.overlay import write_overlay
from foveate.serve.service import Service
from foveate.serve.settings import Settings
from foveate.train.evaluation import load_evaluation
from foveate.train.optim import make_groups
from foveate.video import DecodeError, open_video, scan
from foveate.video.flow import as_pictures
from foveate.video.transform import FLOW_SCALES, SCALES, Augment, crop_sizes, flip
from foveate.weights.file import read_model, save_model
from foveate.weights.official import convert, load_official
from foveate.weights.start import start_from
from parity_cases import ParityCase

BOUND = 20  # pixels a frame that are the outermost level, as flow is usually kept
SPEC = create_outline("tsm_r10_8", modality="flow").spec
TINY: dict[str, Any] = {"width": 0.125, "size": 32, "resize": 32, "frames": 2, "dropout": 0.0}
DIRECTIONS = {"left": (-8, 0), "right": (8, 0), "up": (0, -8), "down": (0, 8)}

Layout = Callable[[str, int], str]
LAYOUTS: dict[str, Layout] = {
    "flow_{}_{:05d}.png": lambda axis, number: f"flow_{axis}_{number:05d}.png",
    "000012-{}_{:05d}.png": lambda axis, number: f"000012-{axis}_{number:05d}.png",
    "{:05d}_{}.png": lambda axis, number: f"{number:05d}_{axis}.png",
    "{}/{:05d}.png": lambda axis, number: f"{axis}/{number:05d}.png",
    "{}/frame{:06d}.png": lambda axis, number: f"{'uv'['xy'.index(axis)]}/frame{number:06d}.png",
}


def write_grey(file: Path, level: int | np.ndarray, size: tuple[int, int] = (48, 40)) -> None:
    """size: width, height."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full(size[::-1], level, np.uint8) if isinstance(level, int) else level
    Image.fromarray(picture).save(file)


def write_flow(
    folder: Path, count: int, layout: Layout = LAYOUTS["flow_{}_{:05d}.png"], first: int = 1
) -> Path:
    """Flow whose levels say which it is: 2 i in x, 2 i + 1 in y."""
    for place in range(count):
        for odd, axis in enumerate("xy"):
            write_grey(folder / layout(axis, place + first), 2 * place + odd)
    return folder


def stack_at(place: int) -> list[int]:
    return list(range(2 * place, 2 * place + 10))


def level_of(pixels: float) -> int:
    """The level at which a movement is kept."""
    return round((pixels + BOUND) * 255 / (2 * BOUND))


def write_moving(folder: Path, speed: tuple[int, int], rng: np.random.Generator, frames: int = 9) -> None:
    """A texture that moves as a whole, in pixels a frame to the right and down: its frames and its flow."""
    texture = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    folder.mkdir(parents=True)
    for number in range(frames):
        shown = np.roll(texture, (speed[1] * number, speed[0] * number), (0, 1))
        Image.fromarray(shown).save(folder / f"img_{number + 1:05d}.png")
        if number:
            for axis, pixels in zip("xy", speed, strict=True):
                noise = rng.integers(-2, 3, (40, 48))
                write_grey(
                    folder / f"flow_{axis}_{number:05d}.jpg", (level_of(pixels) + noise).astype(np.uint8)
                )


class TestVideo:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("first", [0, 1])
    def test_a_frame_is_a_stack_of_five(self, layout: str, first: int, tmp_path: Path) -> None:
        folder = write_flow(tmp_path / "v", 12, LAYOUTS[layout], first)
        with open_video(folder, modality="flow", fps=10) as video:
            assert (video.info.frames, video.info.width, video.info.height) == (8, 48, 40)
            assert (video.info.duration_s, video.channels, video.span) == (1.2, 10, 5)
            found = video.read([7, 0, 3, 3])
            assert found.shape == (4, 40, 48, 10) and (found == found[:, :1, :1]).all()
            assert found[:, 0, 0].tolist() == [stack_at(place) for place in (7, 0, 3, 3)]
            assert [rgb[0, 0].tolist() for _, rgb in video.stream()] == [stack_at(i) for i in range(8)]
            with pytest.raises(DecodeError, match="frame 8 does not exist"):
                video.read([8])
            assert pickle.loads(pickle.dumps(video)).read([2])[0, 0, 0].tolist() == stack_at(2)

    def test_each_flow_is_decoded_once_in_a_pass(self, tmp_path: Path) -> None:
        with open_video(write_flow(tmp_path, 30), modality="flow") as video:
            before = video.frames_decoded
            assert len([*video.iterate(range(26))]) == 26
            assert video.frames_decoded - before == 30

    def test_a_template_chooses_among_several(self, tmp_path: Path) -> None:
        write_flow(tmp_path, 6)
        write_flow(tmp_path, 6, lambda axis, number: f"warp_{axis}_{number + 10:05d}.png")
        with pytest.raises(DecodeError, match=r"two series of optical flow, flow_x_00001.png and warp_x_0"):
            open_video(tmp_path, modality="flow")
        for template in ("flow_{}_{:05d}.png", "flow_{}_%05d.png"):
            assert open_video(tmp_path, template, modality="flow").info.frames == 2
        assert open_video(tmp_path, "warp_{}_{:05d}.png").channels == 10  # the template says so
        with pytest.raises(UsageError, match=r"img_{:05d}.jpg: has no field for the letter x or y"):
            open_video(tmp_path, "img_{:05d}.jpg", modality="flow")
        with pytest.raises(DecodeError, match=r"a folder without pictures like new_{}_{:05d}.png"):
            open_video(tmp_path, "new_{}_{:05d}.png", modality="flow")

    def test_frames_and_flow_in_one_folder(self, tmp_path: Path) -> None:
        """The same list serves a model of each, even where there are as many flows as frames."""
        write_moving(tmp_path / "v", (3, 0), np.random.default_rng(0))
        for axis in "xy":
            write_grey(tmp_path / "v" / f"flow_{axis}_00009.jpg", 128)
        for modality in (None, "rgb"):
            with open_video(tmp_path / "v", modality=modality) as video:  # type: ignore[arg-type]
                assert (video.info.frames, video.channels) == (9, 3)
        with open_video(tmp_path / "v", modality="flow") as video:
            x, y = video.read([0])[0, ..., 0], video.read([0])[0, ..., 1]
            assert (abs(x.mean() - level_of(3)) < 1, abs(y.mean() - level_of(0)) < 1) == (True, True)

    def test_what_is_wrong_is_said_in_one_line(self, tmp_path: Path) -> None:
        def cause(name: str, change: Callable[[Path], object], count: int = 8) -> str:
            change(write_flow(tmp_path / name, count))
            with pytest.raises(DecodeError) as caught, open_video(tmp_path / name, modality="flow") as video:
                video.read(range(video.info.frames))
            assert "\n" not in str(caught.value)
            return str(caught.value).removeprefix(f"{tmp_path}/")

        def lose(*names: str) -> Callable[[Path], object]:
            return lambda folder: [(folder / f"flow_{name}.png").unlink() for name in names]

        assert cause("a", lose("y_00003")).startswith("a: flow_x_00003.png has no picture of y (")
        assert cause("b", lose("x_00003", "x_00004")).startswith(
            "b: flow_y_00003.png has no picture of x, and 1 more ("
        )
        assert cause("c", lose(*(f"y_{n:05d}" for n in range(1, 9)))).startswith(
            "c: flow_x_00001.png has no picture of y, and 7 more ("
        )
        other = cause("d", lambda folder: write_grey(folder / "flow_y_00007.png", 9, (46, 40)))
        assert other.startswith("d/flow_y_00007.png: optical flow of 46x40 pixels, the first 48x40 (")
        assert cause("e", lambda folder: (folder / "flow_x_00002.png").write_bytes(b"no")).startswith(
            "e/flow_x_00002.png: not a picture"
        )
        four = cause("f", lambda folder: None, 4)
        assert four.startswith("f: has 4 optical flows, and a model reads 5 at a time (")

    def test_what_holds_another_thing_is_refused_by_name(self, tmp_path: Path) -> None:
        flow = write_flow(tmp_path / "flow", 8)
        split = write_flow(tmp_path / "split", 8, LAYOUTS["{}/{:05d}.png"])
        rgb = tmp_path / "rgb"
        for number in range(8):
            write_grey(rgb / f"img_{number}.png", number)
        np.save(tmp_path / "a.npy", np.zeros((8, 4, 4, 3), np.uint8))
        for folder in (flow, split):
            with pytest.raises(DecodeError, match=r"holds optical flow and no frames .*modality=flow"):
                open_video(folder, modality="rgb")
        with pytest.raises(DecodeError, match=r"rgb: a folder without optical flow, .* flow_x_00001.jpg"):
            open_video(rgb, modality="flow")
        sources = (
            tmp_path / "a.npy",
            np.zeros((8, 4, 4, 3), np.uint8),
            b"bytes",
            "https://no.where/a.mp4?k=1",
        )
        for source in sources:
            with pytest.raises(
                DecodeError, match="not a folder of optical flow, which the model reads"
            ) as said:
                open_video(source, modality="flow")
            assert "k=1" not in str(said.value)

    def test_a_check_counts_flows_and_finds_what_is_damaged(self, tmp_path: Path) -> None:
        folder = write_flow(tmp_path / "v", 9)
        assert (scan(folder).status, scan(folder).frames) == ("ok", 9)
        row = check_video(Job(str(folder)))
        videos = VideoList((VideoEntry(str(folder)),), (), "jsonl")
        (entry,) = usable(videos, [row]).entries
        with open_video(folder) as video:
            assert (entry.frames, frame_range(entry, video)) == (9, (0, 5))
        (folder / "flow_x_00004.png").write_bytes(b"no")
        assert (scan(folder).status, scan(folder).frames) == ("partial", 8)
        assert scan(folder).cause.startswith("8 of 9 flows can be read (flow_x_00004.png: ")
        split = write_flow(tmp_path / "split", 9, LAYOUTS["{}/{:05d}.png"])
        row = check_video(Job(str(split)))
        assert row.fingerprint and row.bytes

    @pytest.mark.parametrize("layout", ["flow_{}_{:05d}.png", "{}/{:05d}.png", "{}/frame{:06d}.png"])
    def test_folders_of_classes_hold_folders_of_flow(self, layout: str, tmp_path: Path) -> None:
        for name in ("run/a", "run/b", "walk/c"):
            write_flow(tmp_path / name, 6, LAYOUTS[layout])
        listed = read_list(tmp_path)
        assert [Path(entry.path).name for entry in listed.entries] == ["a", "b", "c"]
        assert listed.class_names == ("run", "walk")


class TestSampling:
    def frames(self, folder: Path, augment: Augment | None, epoch: int = 0, **fields: Any) -> list[list[int]]:
        spec = replace(SPEC, size=16, resize=16, **fields)
        data = VideoDataset([VideoEntry(str(folder), (0,))], spec, 1, augment=augment)
        return [frame[0, 0].tolist() for frame in data[epoch, 0].frames[0]]

    @pytest.mark.parametrize("count", [5, 8, 12, 13, 40])
    def test_a_test_takes_the_middles_of_the_release(self, count: int, tmp_path: Path) -> None:
        """int(tick / 2 + tick i) of the places where a stack can begin, tick = (flows - 4) / T."""
        write_flow(tmp_path, count)
        tick = (count - 4) / 8
        expected = [stack_at(int(tick / 2 + tick * i)) for i in range(8)]
        assert self.frames(tmp_path, None) == expected
        with ClipReader(replace(SPEC, size=16, resize=16)).open(tmp_path) as video:
            ((_, clip),) = video.map(lambda window, frames: (window, frames))
        assert [frame[0, 0].tolist() for frame in clip[1][0]] == expected

    def test_training_draws_within_the_segments_of_the_release(self, tmp_path: Path) -> None:
        write_flow(tmp_path, 30)
        length = (30 - 5 + 1) // 8
        drawn = set()
        for epoch in range(40):
            stacks = self.frames(tmp_path, Augment("center", flip=False), epoch)
            starts = [stack[0] // 2 for stack in stacks]
            assert stacks == [stack_at(start) for start in starts]
            drawn |= {(i, start - i * length) for i, start in enumerate(starts)}
        assert drawn == {(i, offset) for i in range(8) for offset in range(length)}

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({}, (0, 16)),
            ({"frames": 20}, (0, 16)),
            ({"frames": 21}, (0, 16)),  # of the frames between which 20 flows are
            ({"frames": 12}, (0, 8)),
            ({"start": 4, "end": 14}, (4, 6)),
            ({"start": 4, "end": 21}, (4, 12)),
            ({"start_s": 0.4, "end_s": 1.4}, (4, 6)),
            ({"start_s": 1.0}, (10, 6)),
        ],
    )
    def test_a_stretch_holds_all_of_its_stacks(
        self, entry: dict[str, float], expected: tuple[int, int], tmp_path: Path
    ) -> None:
        with open_video(write_flow(tmp_path, 20), fps=10) as video:
            assert frame_range(VideoEntry(str(tmp_path), **entry), video) == expected  # type: ignore[arg-type]

    def test_a_stretch_without_a_stack_is_refused(self, tmp_path: Path) -> None:
        with open_video(write_flow(tmp_path, 20)) as video:
            with pytest.raises(DataError, match="fewer than 5 optical flows in the range from 3 to 7"):
                frame_range(VideoEntry(str(tmp_path), start=3, end=7), video)
            with pytest.raises(DataError, match="the list says 34 frames, it has 20"):
                frame_range(VideoEntry(str(tmp_path), frames=34), video)


class TestTransform:
    def test_a_mirrored_movement_goes_the_other_way(self) -> None:
        stacks = torch.randint(0, 256, (2, 5, 7, 10), dtype=torch.uint8)
        mirrored = flip(stacks, "flow")
        assert torch.equal(mirrored[..., 1::2], stacks[..., 1::2].flip(2))
        assert torch.equal(mirrored[..., 0::2], 255 - stacks[..., 0::2].flip(2))
        assert torch.equal(flip(mirrored, "flow"), stacks)
        for speed in range(-BOUND, BOUND + 1):
            assert abs((255 - level_of(speed)) - level_of(-speed)) <= 1

    def test_crops_are_never_as_small_as_those_of_frames(self, tmp_path: Path) -> None:
        assert SCALES[: len(FLOW_SCALES)] == FLOW_SCALES == (1.0, 0.875, 0.75)
        ramp = np.tile(np.arange(0, 240, 5, np.uint8), (48, 1))  # whose range in a crop is its width
        for number in range(5):
            for axis in "xy":
                write_grey(tmp_path / f"flow_{axis}_{number}.png", ramp)
        spec = replace(SPEC, frames=1, size=48, resize=48)
        data = VideoDataset([VideoEntry(str(tmp_path))], spec, 1, augment=Augment(flip=False))
        widths = {int(np.ptp(data[epoch, 0].frames.numpy()) / 5 + 1.5) for epoch in range(60)}
        assert min(widths) >= min(width for _, width in crop_sizes(48, 48, FLOW_SCALES)) - 1
        assert len(widths) > 1

    def test_colours_are_refused(self) -> None:
        with pytest.raises(UsageError, match="--colour: optical flow has no colours"):
            VideoDataset([], SPEC, 1, augment=Augment(colour=0.2))

    def test_levels_become_those_of_the_release(self) -> None:
        """(level / 255 - 0.5) / 0.226, the mean of the three deviations of ImageNet."""
        frames = torch.arange(0, 250, 10, dtype=torch.uint8).repeat(10).view(1, 1, 5, 5, 10)
        expected = (frames.double() / 255 - 0.5) / np.mean([0.229, 0.224, 0.225])
        assert torch.allclose(to_clip(frames, SPEC).permute(0, 2, 3, 4, 1).double(), expected, atol=1e-5)

    def test_a_spec_needs_levels_for_every_channel(self) -> None:
        with pytest.raises(ValueError, match="have 3 and 3 numbers; flow has 10 channels"):
            ClipSpec(modality="flow")


RGB_ONLY = ("adafocus_small", "slowfast_small", "x3d_xs", "fullvideo_small", "arnet_small", "i3d_ibm_r50_8")


class TestModel:
    @pytest.mark.parametrize("name", ["tsn_r18_8", "tsm_mnv2_8", "tam_lite0_8", "blresnet50", "blvnet_small"])
    def test_its_first_layer_reads_ten_channels(self, name: str) -> None:
        model = create_outline(name, modality="flow", size=64, resize=64, frames=2).eval()
        assert model(torch.empty(3, 10, 2, 64, 64, device="meta")).shape == (3, model.num_classes)
        assert (model.spec.channels, len(model.spec.mean), set(model.spec.mean)) == (10, 10, {0.5})

    @pytest.mark.parametrize(
        ("name", "frames"), [("tsm_r50_8", 8), ("tsn_r50_8", 8), ("blvnet_tam_r50_8x2", 16)]
    )
    def test_it_costs_seven_more_channels_of_one_layer(self, name: str, frames: int) -> None:
        def macs(model: Any) -> int:
            clip = torch.empty(1, model.spec.channels, frames, 224, 224, device="meta")
            return int(model.part_macs("frame_features", clip))

        rgb, flow = create_outline(name), create_outline(name, modality="flow")
        assert macs(flow) - macs(rgb) == frames * 7 * 64 * 7 * 7 * 112 * 112
        parameters = [sum(p.numel() for p in model.parameters()) for model in (rgb, flow)]
        assert parameters[1] - parameters[0] == 7 * 64 * 7 * 7

    @pytest.mark.parametrize("name", RGB_ONLY)
    def test_another_says_that_it_reads_none(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"{name}: reads RGB alone: it has no modality .TSN, TSM"):
            create_model(name, modality="flow")

    def test_a_stream_and_a_server_have_none(self) -> None:
        model = create_model("tsm_r10_8", 2, modality="flow", temporal="past", **TINY).eval()
        assert not model.streams
        with pytest.raises(UsageError, match="reads optical flow, which no stream has"):
            open_live(EagerEngine(model))
        with pytest.raises(UsageError, match="reads optical flow, which no video has that is sent"):
            Service({"flow": EagerEngine(model)}, Settings())

    def test_its_first_layer_learns_five_times_as_fast_as_in_the_release(self) -> None:
        model = create_model("tsm_r10_8", 2, modality="flow", **TINY)
        (first,) = [group for group in make_groups(model, "tsm") if group.name == "flow weight"]
        assert (first.rate, first.decay) == (5, 1) and first.params[0].shape[1] == 10
        assert "flow weight" not in {group.name for group in make_groups(create_model("tsm_r10_8"), "tsm")}

    def test_a_file_keeps_it(self, tmp_path: Path) -> None:
        model = create_model("tsm_r10_8", 2, modality="flow", **TINY).eval()
        save_model(model, tmp_path / "m.safetensors")
        read, _ = read_model(tmp_path / "m.safetensors")
        assert read.spec == model.spec and read.config.modality == "flow"
        model.spec = create_outline("tsm_r10_8", **TINY).spec
        save_model(model, tmp_path / "wrong.safetensors")
        with pytest.raises(ModelFileError, match="its clips are of rgb, which its configuration is not"):
            read_model(tmp_path / "wrong.safetensors")


class TestUse:
    """What runs a model takes ten channels as it does three."""

    @pytest.fixture
    def model(self) -> Any:
        torch.manual_seed(0)
        model = create_model("tsm_r10_8", 2, modality="flow", **TINY).eval()
        model.labels = ("a", "b")
        return model

    def test_a_folder_is_predicted_here_and_in_a_process_of_its_own(self, model: Any, tmp_path: Path) -> None:
        write_flow(tmp_path / "v", 20)
        here, apart = (Predictor(model, untrusted=kind).predict(tmp_path / "v") for kind in (False, True))
        assert (here.status, here.cost.frames_used) == ("ok", 2)
        assert here.predictions == apart.predictions
        frames = np.zeros((9, 32, 32, 3), np.uint8)
        (refused,) = Predictor(model).predict_all([frames])
        assert (refused.status, refused.cause.partition(",")[0]) == (
            "refused",
            "not a folder of optical flow",
        )

    def test_a_picture_shows_the_first_flow(self, model: Any, tmp_path: Path) -> None:
        write_flow(tmp_path / "v", 20)
        with open_video(tmp_path / "v") as video:
            assert as_pictures(video.read([3]))[0, 0, 0].tolist() == [6, 7, 128]
        write_overlay(Predictor(model).predict(tmp_path / "v"), tmp_path / "over.mp4")
        with open_video(tmp_path / "over.mp4") as shown:
            assert shown.info.frames == 16

    @pytest.mark.stress
    def test_it_is_exported(self, model: Any, tmp_path: Path) -> None:
        card = export_model(model, "torch", tmp_path / "out")
        clip = torch.randint(0, 256, (2, 32, 32, 10), dtype=torch.uint8)
        assert check_export(model, card, [clip]).error < 1e-5
        described = json.loads(card.read_text())["input"]
        assert described["shape"] == ["B", 2, 32, 32, 10]
        assert described["layout"].endswith("x and y of 5 successive optical flows, 128 for none")

    def test_it_is_measured_by_its_shape(self, model: Any) -> None:
        assert a_clip(model).shape == clip_shape(model, 1) == (1, 2, 32, 32, 10)


class TestWeights:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("tsm_r10_8", "backbone.conv1.weight"),
            ("tsm_mnv2_8", "backbone.stem.conv.weight"),
            ("blvnet_small", "backbone.stem.conv1.weight"),
        ],
    )
    def test_flow_starts_from_the_mean_over_rgb(self, name: str, key: str) -> None:
        rgb, flow = create_model(name, 4), create_model(name, 4, modality="flow")
        start_from(flow, rgb)
        kernel, given = flow.state_dict()[key], rgb.state_dict()[key]
        assert kernel.shape == (given.shape[0], 10, *given.shape[2:])
        assert all(torch.equal(kernel[:, channel], given.mean(1)) for channel in range(10))
        others = [other for other in rgb.state_dict() if other != key and not other.startswith("head.")]
        assert all(torch.equal(flow.state_dict()[other], rgb.state_dict()[other]) for other in others)

    def test_a_model_of_rgb_does_not_start_from_flow(self) -> None:
        rgb, flow = create_model("tsm_r10_8", 4), create_model("tsm_r10_8", 4, modality="flow")
        with pytest.raises(ModelFileError, match="it reads optical flow, and this model RGB"):
            start_from(rgb, flow)
        start_from(flow, flow)

    @pytest.mark.parametrize(
        ("case", "name", "first"),
        [
            ("tsm/tsm_resnet50_seg8_k400_96", "tsm_r50_8", "module.base_model.conv1.weight"),
            ("blvnet_tam/blvnet_tam50_a2b4_f2x2_k400_nodrop_96", "blvnet_tam_r50_8x2", "conv1.weight"),
        ],
    )
    def test_a_released_checkpoint_of_flow_is_recognised(self, case: str, name: str, first: str) -> None:
        """With RGB in its first three channels and kernels of 0 for the others it answers as that of RGB."""
        parity = ParityCase(case)
        state = parity.state_dict()
        (key,) = [key for key in state if key.endswith(first) and state[key].shape[1:] == (3, 7, 7)]
        state[key] = torch.cat([state[key], torch.zeros(64, 7, 7, 7)], 1)
        origin = "blvnet" if case.startswith("blvnet") else "tsm"
        model = convert(state, origin, name, 400)
        assert model.config.modality == model.spec.modality == "flow"
        given = parity.input()
        clip = given.reshape(len(given), -1, 3, *given.shape[-2:]).transpose(1, 2)
        with torch.inference_mode():
            found = model(torch.cat([clip, torch.randn(len(clip), 7, *clip.shape[2:])], 1))
        expected = parity.expected(parity.info["outputs"][0]).view_as(found)
        assert (found - expected).norm() / expected.norm() < 1e-4

    def test_a_checkpoint_of_the_other_modality_is_refused(self, tmp_path: Path) -> None:
        state = ParityCase("tsm/tsn_resnet50_seg8_k400_96").state_dict()
        rgb, flow = tmp_path / "rgb.pth", tmp_path / "flow.pth"
        torch.save({"state_dict": state}, rgb)
        state["module.base_model.conv1.weight"] = torch.zeros(64, 10, 7, 7)
        torch.save({"state_dict": state}, flow)
        with pytest.raises(
            ModelFileError, match=r"the checkpoint reads RGB, not optical flow .leave modality"
        ):
            load_official(rgb, "tsn_r50_8", modality="flow")
        with pytest.raises(ModelFileError, match="the checkpoint reads optical flow, and this model RGB"):
            load_official(flow, "tsn_r50_8", modality="rgb")
        assert load_official(flow, "tsn_r50_8").spec.channels == 10


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Textures that move in one of four directions: frames and flow of each, and a list."""
    folder, rng, lines = tmp_path_factory.mktemp("moving"), np.random.default_rng(0), []
    for number in range(16):
        label = number % 4
        write_moving(folder / f"v{number}", [*DIRECTIONS.values()][label], rng)
        with open_video(folder / f"v{number}") as video:
            np.save(folder / f"v{number}.npy", video.read(range(9)))
        lines.append(f"v{number} 9 {label}")
    (folder / "train.txt").write_text("\n".join(lines[:12]) + "\n")
    (folder / "val.txt").write_text("\n".join(lines[12:]) + "\n")
    videos = [line.replace(" 9", ".npy") for line in lines[12:]]
    (folder / "videos.txt").write_text("\n".join(videos) + "\n")
    return folder


def call(*words: object) -> int:
    before = sys.stdout
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert sys.stdout is before
    return int(left.value.code or 0)


def trained(folder: Path, out: Path, modality: str, epochs: int) -> Path:
    words = [f"{key}={value}" for key, value in TINY.items()]
    lists = ("--videos", folder / "train.txt", "--val", folder / "val.txt", "--out", out)
    options = (
        "--model",
        "tsm_r10_8",
        "--epochs",
        epochs,
        "--batch",
        4,
        "--workers",
        0,
        "--rate",
        0.05,
        "--no-flip",
    )
    assert call("train", *lists, *options, "--settings", f"modality={modality}", *words) == 0
    return out / "best.safetensors"


def test_flow_is_learnt_and_joined_with_rgb(
    moving: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    """Movement alone tells these classes apart; the videos of one list are the flow folders of the other."""
    flow, rgb = trained(moving, tmp_path / "flow", "flow", 12), trained(moving, tmp_path / "rgb", "rgb", 1)
    scores = {name: tmp_path / f"{name}.npz" for name in ("flow", "rgb")}
    listed = moving / "val.txt"
    assert call("eval", moving / "videos.txt", "--model", rgb, "--workers", 0, "--scores", scores["rgb"]) == 0
    assert call("eval", listed, "--model", flow, "--workers", 0, "--scores", scores["flow"]) == 0
    alone = {name: load_evaluation(path) for name, path in scores.items()}
    assert alone["flow"].measures["top1"] == 1.0
    both = tmp_path / "both.npz"
    joining = ("--join", scores["rgb"], "--join-weights", 0.5, "--scores", both)
    assert call("eval", listed, "--model", flow, "--workers", 0, *joining) == 0
    found = load_evaluation(both)
    expected = (alone["flow"].probabilities + 0.5 * alone["rgb"].probabilities) / 1.5
    assert np.allclose(found.probabilities, expected, atol=1e-6)
    assert (found.macs == alone["flow"].macs + alone["rgb"].macs).all()
    capsys.readouterr()
    assert call("predict", moving / "v12", "--model", flow, "--top", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["label"] == "0"
