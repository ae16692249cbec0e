"""The overlay shows what the model did: green boxes where it looked, grey dashes where it did not."""

from __future__ import annotations

import json
from itertools import pairwise
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
from foveate.infer.output import ClassScore, Cluster, FrameSize, PatchBox, Prediction, Segment
from foveate.infer.predict import Predictor
from foveate.models.zoo import create_model
from foveate.report.band import BLUE, FILLS, GREEN, GREY, Band
from foveate.report.overlay import NARROWEST, TALLEST, WIDEST, write_overlay, write_sheet
from foveate.report.sheet import CELL, COLUMNS, MOST, NOTE
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
        band = Band(seen(bikes, boxes), video.times, video.info.width)
        assert drawn[0].shape == (video.info.height + band.height, video.info.width, 3)
        plain = video.read([50])[0]
    left, top, right, bottom = BOX
    assert green(drawn[50])[top : bottom + 1, left].mean() > 0.9
    assert green(drawn[50])[bottom, left : right + 1].mean() > 0.8
    assert green(plain)[top : bottom + 1, left].mean() < 0.1
    assert green(drawn[180])[top : bottom + 1, left].mean() < 0.1  # that one was skipped


def test_the_sheet_has_a_picture_for_each_look(bikes: Path, tmp_path: Path) -> None:
    boxes = [PatchBox(frame, 0.0, BOX, True) for frame in (0, 40, 80, 120, 160)]
    sheet = np.asarray(Image.open(write_sheet(seen(bikes, boxes), tmp_path / "sheet.png")))
    height = round(CELL * 272 / 640)
    sheet = sheet[len(sheet) - 2 * height :]  # without the band
    found = [
        bool(green(sheet[row * height :][:height, column * CELL :][:, :CELL]).any())
        for row in range(2)
        for column in range(COLUMNS)
    ]
    assert found == [True] * 5 + [False] * 3


def test_a_long_video_gets_a_sheet_of_bounded_size(bikes: Path, tmp_path: Path) -> None:
    boxes = [PatchBox(frame, 0.0, BOX, True) for frame in range(200)]
    sheet = Image.open(write_sheet(seen(bikes, boxes), tmp_path / "sheet.png"))
    band = Band(seen(bikes, boxes), np.arange(250) / 25, COLUMNS * CELL)
    assert sheet.height == band.height + NOTE + MOST // COLUMNS * round(CELL * 272 / 640)


def test_what_cannot_be_drawn_or_written(bikes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="read none of its frames"):
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

    def test_a_model_that_chooses_nothing(
        self, clips: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        net = create_model("tsm_r10_8", 4, frames=2, size=32, resize=32)
        save_model(net.eval(), tmp_path / "tsm.safetensors")
        words = ("--model", tmp_path / "tsm.safetensors", "--overlay", tmp_path / "out.mp4", "--json")
        assert run(clips["carphone_pristine.mp4"], *words, "--choices") == 0
        assert json.loads(capsys.readouterr().out)["frames"] == [30, 90]
        assert (tmp_path / "out.png").exists() and len(pictures(tmp_path / "out.mp4")) == 120


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


def striped(path: Path, frames: int, height: int, width: int) -> Path:
    """An array whose left half is red and whose right half is blue."""
    video = np.zeros((frames, height, width, 3), np.uint8)
    video[:, :, : width // 2, 0] = video[:, :, width // 2 :, 2] = 200
    np.save(path, video)
    return path


@pytest.mark.parametrize("name", ["arnet_small", "slowfast_small", "fullvideo_small", "x3d_s"])
def test_every_system_is_drawn(name: str, tmp_path: Path) -> None:
    """Sizes at which frames were read, frames of each pathway, clusters, or the frames read alone."""
    torch.manual_seed(0)
    fields = {"x3d_s": {"size": 64, "resize": 64, "frames": 4}}.get(name, {})
    net = create_model(name, 4, **fields).eval()
    result = Predictor(net, window=0).predict(striped(tmp_path / "video.npy", 40, 72, 96))
    assert result.frames and all(before < after for before, after in pairwise(result.frames))
    assert bool(result.sizes or result.pathways or result.clusters) == (name != "x3d_s")
    with Image.open(write_overlay(result, tmp_path / "out.mp4")) as sheet:
        assert sheet.width == COLUMNS * CELL
    assert len(pictures(tmp_path / "out.mp4")) == 40


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [
        (176, 144, (528, 432)),
        (640, 272, (640, 272)),
        (1920, 1080, (1280, 720)),
        (1080, 1920, (404, 720)),
        (33, 17, (496, 256)),
        (2000, 16, (1280, 10)),
        (16, 400, (16, 400)),
    ],
)
def test_the_picture_is_whole_and_of_a_size_to_read_by(
    width: int, height: int, shown: tuple[int, int], tmp_path: Path
) -> None:
    """No pixel of it is under the band, and its colours are where they were."""
    path = striped(tmp_path / "video.npy", 1, height, width)
    result = Prediction(str(path), "m", duration_s=0.04, fps=25, frames=(0,))
    write_overlay(result, tmp_path / "out.mp4")
    (frame,) = pictures(tmp_path / "out.mp4")
    band = Band(result, np.zeros(1), max(shown[0], NARROWEST))
    assert frame.shape == (shown[1] + band.height, max(shown[0], NARROWEST), 3)
    assert shown[0] <= WIDEST and shown[1] <= TALLEST
    left = (frame.shape[1] - shown[0]) // 2
    row = frame[shown[1] // 2, left : left + shown[0]].astype(int)
    quarter = shown[0] // 4
    assert (row[: quarter + 1, 0] > 140).all() and (row[-quarter:, 2] > 140).all()
    assert frame[shown[1] + 4 :].std() > 5, "there is writing below"


class TestBand:
    TIMES = np.arange(100) / 10
    WIDTH = 640

    def drawn(self, seconds: float | None = None, **fields: object) -> np.ndarray:
        best = (ClassScore(1, "ride", 0, 0.5),)
        result = Prediction("video", "m", duration_s=10.0, fps=10.0, predictions=best, **fields)  # type: ignore[arg-type]
        band = Band(result, self.TIMES, self.WIDTH)
        return np.asarray(band.whole() if seconds is None else band.at(seconds))

    def columns(self, picture: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
        return np.flatnonzero((picture == colour).all(2).any(0)).tolist()

    def test_labels_take_their_stretch_and_the_height_of_their_score(self) -> None:
        segments = (Segment(0, 5, "a", 0, 0.25), Segment(5, 10, "b", 1, 1.0))
        picture = self.drawn(segments=segments)
        low, high = (self.columns(picture, colour) for colour in FILLS[:2])
        assert low[-1] <= high[0] + 1 and abs((high[0] - low[0]) - (high[-1] - high[0])) <= 2
        heights = [
            int((picture[:, columns[4]] == colour).all(1).sum())
            for columns, colour in ((low, FILLS[0]), (high, FILLS[1]))
        ]
        assert heights[1] == pytest.approx(4 * heights[0], abs=4)

    def test_a_label_that_comes_again_has_its_colour_again(self) -> None:
        segments = tuple(Segment(i, i + 1, "ab"[i % 2], i % 2, 1.0) for i in range(10))
        picture = self.drawn(segments=segments)
        assert not self.columns(picture, FILLS[2]) and len(self.columns(picture, FILLS[0])) > 200

    def test_the_pointer_goes_from_left_to_right(self) -> None:
        places = [np.flatnonzero((self.drawn(at)[-8] > 250).all(1)) for at in (0.0, 5.0, 10.0)]
        assert [len(place) for place in places] == [2, 2, 2]
        assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=1)

    def test_skipped_frames_stand_lower_than_those_read(self) -> None:
        boxes = (PatchBox(10, 1.0, BOX, True), PatchBox(50, 5.0, BOX, False))
        picture = self.drawn(boxes=boxes)
        picture = picture[:, 100:]  # without the name of the lane
        (read, *_), (skipped, *_) = (self.columns(picture, colour) for colour in (GREEN, GREY))
        assert read < skipped
        tall = (picture[:, read] == GREEN).all(1).sum()
        assert 0 < (picture[:, skipped] == GREY).all(1).sum() < tall / 2

    def test_a_size_is_a_height(self) -> None:
        sizes = (FrameSize(10, 1.0, 224), FrameSize(50, 5.0, 112), FrameSize(90, 9.0, 0))
        picture = self.drawn(sizes=sizes)
        heights = (picture == GREEN).all(2).sum(0)
        assert len(set(heights[heights > 0].tolist())) == 2
        assert heights.max() == pytest.approx(2 * heights[heights > 0].min(), abs=2)
        assert self.columns(picture, GREY)

    def test_clusters_have_borders_even_between_the_same_colours(self) -> None:
        count = len(FILLS) + 1
        clusters = tuple(Cluster(i, i + 1, 10, i * len(FILLS)) for i in range(count))
        picture = self.drawn(clusters=clusters)
        row = picture[-14]  # in the lane of the clusters, below their numbers
        assert int((row == 255).all(1).sum()) >= count - 1

    def test_each_pathway_has_its_lane(self) -> None:
        one = self.drawn(pathways={"slow": (0, 50)})
        two = self.drawn(pathways={"slow": (0, 50), "fast": tuple(range(0, 100, 5))})
        assert len(two) > len(one)
        assert len(self.columns(two, GREEN)) < len(self.columns(two, BLUE))

    def test_writing_is_light_enough_on_every_colour(self) -> None:
        """White on a fill has a contrast of at least 4.5, as WCAG 2.1 asks of text."""
        for colour in FILLS:
            linear = [
                c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.divide(colour, 255)
            ]
            assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05) >= 4.5, colour

    def test_long_names_leave_room_for_the_score_and_the_time(self) -> None:
        long = "turning something upside down while it is falling off a very high table in the rain"
        best = Prediction("v", long, predictions=(ClassScore(1, long, 0, 0.5),), duration_s=10.0, fps=10.0)
        short = Prediction("v", "m", predictions=(ClassScore(1, "m", 0, 0.5),), duration_s=10.0, fps=10.0)
        corner = [np.asarray(Band(each, self.TIMES, 480).at(1.0))[:24, -90:] for each in (best, short)]
        assert np.array_equal(*corner)


def test_windows_change_the_label_below_the_picture(tmp_path: Path) -> None:
    """The words follow the time: those of the second window stand under its frames."""
    segments = (Segment(0.0, 0.4, "mumble", 0, 0.9), Segment(0.4, 0.8, "i", 1, 0.8))
    path = striped(tmp_path / "video.npy", 20, 144, 176)
    result = Prediction(str(path), "m", duration_s=0.8, fps=25.0, segments=segments, frames=(0, 19))
    write_overlay(result, tmp_path / "out.mp4")
    drawn = pictures(tmp_path / "out.mp4")
    top = 3 * 144
    words = [int((frame[top : top + 24, :120] > 200).all(2).sum()) for frame in (drawn[3], drawn[16])]
    assert words[0] > 1.3 * words[1] > 0


def test_a_turned_video_is_drawn_upright(corpus: tuple[Path, dict], tmp_path: Path) -> None:
    path = corpus[0] / "rotated_90.mp4"
    with open_video(path) as video:
        width, height, frames = video.info.width, video.info.height, video.info.frames
    write_overlay(Prediction(str(path), "m", duration_s=1.0, fps=25.0, frames=(0,)), tmp_path / "out.mp4")
    drawn = pictures(tmp_path / "out.mp4")
    assert len(drawn) == frames and height > width
    assert (drawn[0][:, 0].max(1) < 40).mean() > 0.5, "black beside an upright picture"
