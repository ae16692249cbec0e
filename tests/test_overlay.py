"""The overlay shows what the model did: green boxes where it looked, grey dashes where it did not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from foveate.cli import main
from foveate.data.synthetic import FiguresConfig, render_clip
from foveate.data.synthetic.config import ACTIONS
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import DataError, OutputError
from foveate.infer.output import ClassScore, PatchBox, Prediction
from foveate.infer.predict import Predictor
from foveate.models.zoo import create_model
from foveate.report.overlay import write_overlay, write_sheet
from foveate.report.sheet import COLUMNS, MOST, NOTE
from foveate.video import open_video
from foveate.weights.file import save_model
from foveate.weights.load import load_model

BOX = (40, 60, 100, 120)


def seen(path: Path, boxes: list[PatchBox]) -> Prediction:
    return Prediction(
        str(path), "adafocus_small", predictions=(ClassScore(1, "ride", 0, 0.5),), boxes=tuple(boxes)
    )


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def run(*words: object) -> int:
    """The exit code of `foveate predict`."""
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, words)])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def green(picture: np.ndarray) -> np.ndarray:
    """Where a picture shows the colour of the box, as far as a video keeps colours."""
    red, strong, blue = (picture[..., channel].astype(int) for channel in range(3))
    return (strong > red + 60) & (strong > blue + 60)


@pytest.fixture(scope="module")
def bikes(clips: dict[str, Path]) -> Path:
    return clips["bikes.mp4"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(create_model("adafocus_small", 4).eval(), path)
    return path


def test_the_box_of_the_nearest_look_is_on_every_frame(bikes: Path, tmp_path: Path) -> None:
    boxes = [PatchBox(10, 0.0, BOX, True), PatchBox(200, 0.0, BOX, False)]
    write_overlay(seen(bikes, boxes), tmp_path / "out.mp4")
    drawn = pictures(tmp_path / "out.mp4")
    with open_video(bikes) as video:
        assert len(drawn) == video.info.frames
        assert drawn[0].shape == (video.info.height, video.info.width, 3)
        plain = video.read([50])[0]
    left, top, right, bottom = BOX
    assert green(drawn[50])[top : bottom + 1, left].mean() > 0.9
    assert green(drawn[50])[bottom, left : right + 1].mean() > 0.8
    assert green(plain)[top : bottom + 1, left].mean() < 0.1
    assert green(drawn[180])[top : bottom + 1, left].mean() < 0.1  # that one was skipped


def test_the_sheet_has_a_picture_for_each_look(bikes: Path, tmp_path: Path) -> None:
    boxes = [PatchBox(frame, 0.0, BOX, True) for frame in (0, 40, 80, 120, 160)]
    sheet = np.asarray(Image.open(write_sheet(seen(bikes, boxes), tmp_path / "sheet.png")))
    height = sheet.shape[0] // 2
    found = [
        bool(green(sheet[row * height :][:height, column * 320 :][:, :320]).any())
        for row in range(2)
        for column in range(COLUMNS)
    ]
    assert found == [True] * 5 + [False] * 3


def test_a_long_video_gets_a_sheet_of_bounded_size(bikes: Path, tmp_path: Path) -> None:
    boxes = [PatchBox(frame, 0.0, BOX, True) for frame in range(200)]
    sheet = Image.open(write_sheet(seen(bikes, boxes), tmp_path / "sheet.png"))
    assert sheet.height == NOTE + MOST // COLUMNS * round(320 * 272 / 640)


def test_what_cannot_be_drawn_or_written(bikes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="chooses no patches"):
        write_overlay(seen(bikes, []), tmp_path / "out.mp4")
    with pytest.raises(OutputError, match="cannot be written"):
        write_overlay(seen(bikes, [PatchBox(0, 0.0, BOX, True)]), tmp_path / "nowhere" / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_boxes_lie_where_the_patches_were_cut(bikes: Path, model: Path) -> None:
    """The crop of 160 from 640x272 shows the middle 272x272, so a patch of 64 is 109 pixels wide there."""
    result = Predictor(model, window=0).predict(bikes)
    assert len(result.boxes) == 8
    for box in result.boxes:
        left, top, right, bottom = box.box
        assert 184 <= left < right <= 456
        assert abs((right - left) - 108.8) <= 1
        assert abs((bottom - top) - 108.8) <= 1


def test_the_model_of_the_package_reads_figures_and_looks_at_them(tmp_path: Path) -> None:
    """Videos made anew, encoded as H.264: most are named rightly, and the patch covers most of the person."""
    right, shares = 0, []
    for label, action in enumerate(ACTIONS[:8]):
        figure = render_clip(FiguresConfig(), (77, label), label=label)
        path = tmp_path / f"{action}.mp4"
        path.write_bytes(encode_h264(figure.frames, 16, 23))
        result = Predictor(load_model("adafocus_small", "figures"), window=0).predict(path)
        right += result.predictions[0].label == action
        shares += [_share(box.box, figure.boxes[box.frame]) for box in result.boxes]
    assert right >= 6
    assert np.mean(shares) > 0.6


def _share(patch: tuple[int, ...], person: np.ndarray) -> float:
    """How much of the person's box the patch covers. Boxes: left, top, right, bottom."""
    start, end = np.maximum(patch[:2], person[:2]), np.minimum(patch[2:], person[2:])
    return float(np.prod(np.clip(end - start, 0, None)) / np.prod(person[2:] - person[:2]))


class TestCommand:
    def test_the_model_of_the_package_is_asked_for_by_name(
        self, bikes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(bikes, "--model", "adafocus_small", "--overlay", tmp_path / "out.mp4") == 0
        assert "trained on drawn figures" in capsys.readouterr().out

    def test_one_video(self, bikes: Path, model: Path, tmp_path: Path) -> None:
        assert run(bikes, "--model", model, "--overlay", tmp_path / "look here.mp4") == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["look here.mp4", "look here.png"]

    def test_several_go_into_a_folder(self, clips: dict[str, Path], model: Path, tmp_path: Path) -> None:
        short = clips["carphone_pristine.mp4"]
        words = (short, short, tmp_path / "gone.mp4", "--model", model, "--overlay")
        assert run(*words, tmp_path / "out.mp4") == 2
        (tmp_path / "out").mkdir()
        assert run(*words, tmp_path / "out") == 3  # the missing one is named, the others are drawn
        assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == [
            "carphone_pristine-2.overlay.mp4",
            "carphone_pristine.overlay.mp4",
        ]

    def test_the_input_is_never_overwritten(self, bikes: Path, model: Path) -> None:
        before = bikes.stat().st_mtime_ns
        assert run(bikes, "--model", model, "--overlay", bikes) == 2
        assert bikes.stat().st_mtime_ns == before

    def test_a_model_without_patches(self, bikes: Path, tmp_path: Path) -> None:
        save_model(create_model("tsm_r10_8", 4).eval(), tmp_path / "tsm.safetensors")
        assert run(bikes, "--model", tmp_path / "tsm.safetensors", "--overlay", tmp_path / "out.mp4") == 2


def test_with_three_crops_the_boxes_are_those_of_the_middle_one(bikes: Path, model: Path) -> None:
    one, three = (Predictor(model, window=0, crops=crops).predict(bikes) for crops in (1, 3))
    assert [box.box for box in three.boxes] == [box.box for box in one.boxes]


def test_a_frame_that_only_the_overlay_needs_is_broken(model: Path, tmp_path: Path) -> None:
    """The prediction stands; the drawing is missed aloud, and the exit code says so."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(24):
        Image.new("RGB", (64, 48), (9 * number, 90, 90)).save(folder / f"{number:03d}.png")
    used = {box.frame for box in Predictor(model).predict(folder).boxes}
    unused = next(number for number in range(24) if number not in used)
    (folder / f"{unused:03d}.png").write_bytes(b"no picture")
    assert run(folder, "--model", model, "--overlay", tmp_path / "out.mp4") == 3
    assert not (tmp_path / "out.mp4").exists()


def test_the_clip_form_shows_the_frames_that_its_local_network_saw(bikes: Path, tmp_path: Path) -> None:
    small = {"glance": "resnet10", "local": "resnet10", "glance_width": 0.125, "local_width": 0.125}
    sizes = {"size": 64, "resize": 64, "glance_size": 32, "patch": 32, "policy_width": 8}
    torch.manual_seed(0)
    net = create_model("adafocus_tsm_144", 4, **small, **sizes)
    result = Predictor(net.eval(), window=0).predict(bikes)
    assert [len(result.boxes), sum(box.looked for box in result.boxes)] == [24, 12]
    assert result.cost.patches == 12
    save_model(net, tmp_path / "tsm.safetensors")
    assert run(bikes, "--model", tmp_path / "tsm.safetensors", "--overlay", tmp_path / "out.mp4") == 0
    assert run(bikes, "--model", tmp_path / "tsm.safetensors", "--overlay", tmp_path / "out.avi") == 2


@pytest.mark.parametrize("name", ["arnet_small", "slowfast_small"])
def test_other_choices_are_drawn_too(name: str, bikes: Path, tmp_path: Path) -> None:
    """Sizes at which frames were read, and the frames that each pathway read."""
    torch.manual_seed(0)
    result = Predictor(create_model(name, 4).eval(), window=0).predict(bikes)
    assert result.sizes or result.pathways
    with Image.open(write_overlay(result, tmp_path / "out.mp4")) as sheet:
        assert sheet.height > 100
    assert len(pictures(tmp_path / "out.mp4")) == 250
