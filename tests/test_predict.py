"""From a file to labels: what is asked of the video, what is said about it, and what becomes of bad ones."""

from __future__ import annotations

import csv
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import foveate
from foveate.clip import ClipSpec
from foveate.data.lists import VideoEntry
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import DataError, ModelFileError, UsageError
from foveate.infer.output import Prediction
from foveate.infer.predict import Predictor, join
from foveate.infer.read import Window, cut
from foveate.measure.cost import count_macs
from foveate.models.base import ModelOutput, VideoModel, all_read, same_macs
from foveate.video import open_video as foveate_video
from foveate.weights.file import save_model
from make_bad_videos import KINDS
from parity_cases import ParityCase

FPS = 8
ODD_NAMES = [
    b"two words.mp4",
    b'quo\'te "x" [red]:smile:.mp4',
    b"line\nbreak.mp4",
    "视频🎬.mp4".encode(),
    b"\xff\xfe.mp4",
]
pytestmark = pytest.mark.usefixtures("one_thread")


class Brightness(VideoModel):
    """Says how bright a clip is: "dark" below the middle grey, "bright" above."""

    spec = ClipSpec(frames=4, size=16, resize=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    name = "brightness"
    labels = ("dark", "bright")
    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, ...]] = []

        self.scale = torch.nn.Parameter(torch.ones(()))  # an engine asks where the weights are

    def output(self, clip: torch.Tensor) -> ModelOutput:
        self.asked.append(tuple(clip.shape))
        level = self.scale * clip.mean((1, 2, 3, 4))
        return ModelOutput(torch.stack([-level, level], 1), all_read(clip), same_macs(7, len(clip)))


def small_tsm(**fields: object) -> VideoModel:
    torch.manual_seed(0)
    fields = {"num_classes": 3, "width": 0.25, "size": 32, "resize": 32, "frames": 4} | fields
    model = foveate.create_model("tsm_r10_8", **fields).eval()
    torch.nn.init.normal_(model.head.linear.weight)  # untrained heads are all but silent
    model.labels = ("left", "right", "upwards")
    return model


def write_video(path: Path, *shades: tuple[float, int]) -> Path:
    """A video of plain pictures: (seconds, grey value) one after another."""
    frames = [
        np.full((32, 48, 3), shade, np.uint8)
        for seconds, shade in shades
        for _ in range(round(seconds * FPS))
    ]
    path.write_bytes(encode_h264(np.stack(frames), FPS, 18))
    return path


def test_classes_that_may_be_true_together_have_a_sigmoid_each(tmp_path: Path) -> None:
    model, video = small_tsm(), write_video(tmp_path / "v.mp4", (1, 100), (1, 180))
    shares = {guess.label: guess.score for guess in Predictor(model).predict(video).predictions}
    model.independent = True
    save_model(model, tmp_path / "m.safetensors")
    result = Predictor(tmp_path / "m.safetensors").predict(video)
    each = {guess.label: guess.score for guess in result.predictions}
    assert sum(shares.values()) == pytest.approx(1)
    odds = {label: score / (1 - score) for label, score in each.items()}
    assert {label: odd / sum(odds.values()) for label, odd in odds.items()} == pytest.approx(shares, rel=1e-3)
    assert result.segments[0].score == pytest.approx(result.predictions[0].score)


@pytest.fixture(scope="module")
def night_day_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 seconds: 10 dark, 10 bright, 10 dark."""
    return write_video(tmp_path_factory.mktemp("video") / "night.mp4", (10, 20), (10, 230), (10, 20))


class TestWindows:
    def test_a_video_of_up_to_twenty_seconds_is_one(self) -> None:
        assert cut(np.arange(200) / 10, 20.0, None) == [Window(0, 200, 0.0, 20.0)]

    def test_a_longer_one_is_cut_into_equal_parts_of_about_five_seconds(self) -> None:
        spans = [(w.first, w.end, w.start_s, w.end_s) for w in cut(np.arange(220) / 10, 22.0, None)]
        assert spans == [(0, 55, 0, 5.5), (55, 110, 5.5, 11), (110, 165, 11, 16.5), (165, 220, 16.5, 22)]

    def test_a_gap_in_time_makes_no_empty_window(self) -> None:
        times = np.array([0.0, 1.0, 36000.0, 36001.0])
        assert cut(times, 36002.0, 5.0) == [Window(0, 2, 0.0, 36000.0), Window(2, 4, 36000.0, 36002.0)]

    @given(
        st.lists(st.floats(0, 100), min_size=1, max_size=40).map(sorted),
        st.floats(0, 50),
        st.one_of(st.none(), st.just(0.0), st.floats(0.01, 60)),
    )
    def test_windows_tile_the_frames_and_the_time(
        self, times: list[float], tail: float, seconds: float
    ) -> None:
        end_s = times[-1] + tail
        windows = cut(np.array(times), end_s, seconds)
        assert (windows[0].first, windows[-1].end) == (0, len(times))
        assert (windows[0].start_s, windows[-1].end_s) == (times[0], end_s)
        for one, next_one in pairwise(windows):
            assert (one.end, one.end_s) == (next_one.first, next_one.start_s)
        assert all(window.end > window.first for window in windows)

    def test_neighbours_of_one_label_are_joined(self) -> None:
        windows = [Window(i, i + 1, float(i), i + 1.0) for i in range(4)]
        scores = torch.tensor([[0.6, 0.4], [0.8, 0.2], [0.1, 0.9], [0.7, 0.3]])
        first, second, third = join(windows, scores, ("a", "b"))
        assert (first.start_s, first.end_s, first.label) == (0.0, 2.0, "a")
        assert first.score == pytest.approx(0.7)
        assert (second.start_s, second.end_s, second.index) == (2.0, 3.0, 1)
        assert (third.start_s, third.end_s, third.label) == (3.0, 4.0, "a")


class TestOneVideo:
    def test_labels_over_time_follow_the_video(self, night_day_night: Path) -> None:
        result = Predictor(Brightness()).predict(night_day_night)
        assert [(s.label, s.start_s, s.end_s) for s in result.segments] == [
            ("dark", 0.0, 10.0),
            ("bright", 10.0, 20.0),
            ("dark", 20.0, 30.0),
        ]
        assert result.predictions[0].label == "dark"
        assert (result.status, result.cause, result.duration_s, result.fps) == ("ok", None, 30.0, FPS)

    def test_window_0_takes_it_as_one(self, night_day_night: Path) -> None:
        result = Predictor(Brightness(), window=0).predict(night_day_night)
        assert [(s.start_s, s.end_s) for s in result.segments] == [(0.0, 30.0)]
        assert result.segments[0].score == pytest.approx(result.predictions[0].score)

    def test_window_of_one_second_sees_the_change_to_the_second(self, night_day_night: Path) -> None:
        segments = Predictor(Brightness(), window=1).predict(night_day_night).segments
        assert [s.end_s for s in segments] == [10.0, 20.0, 30.0]

    def test_a_part_of_a_video_is_named_alone(self, night_day_night: Path) -> None:
        predictor = Predictor(Brightness())
        part = predictor.predict(VideoEntry(str(night_day_night), start=10 * FPS, end=20 * FPS))
        assert [(s.label, s.start_s, s.end_s) for s in part.segments] == [("bright", 10.0, 20.0)]
        part = predictor.predict(VideoEntry(str(night_day_night), start_s=21.0, end_s=29.0))
        assert [(s.label, s.start_s, s.end_s) for s in part.segments] == [("dark", 21.0, 29.0)]
        with pytest.raises(DataError, match="frames 0 to 999 are requested, and it has 240"):
            predictor.predict(VideoEntry(str(night_day_night), start=0, end=999))

    def test_the_number_of_frames_in_a_list_does_not_matter(self, night_day_night: Path) -> None:
        result = Predictor(Brightness()).predict(VideoEntry(str(night_day_night), frames=5000))
        assert result.duration_s == 30.0

    def test_guesses_are_ranked_probabilities(self, clips: dict[str, Path]) -> None:
        guesses = Predictor(small_tsm(), top=9).predict(clips["bikes.mp4"]).predictions
        assert [guess.rank for guess in guesses] == [1, 2, 3]
        assert sum(guess.score for guess in guesses) == pytest.approx(1)
        assert [g.score for g in guesses] == sorted((g.score for g in guesses), reverse=True)
        assert {g.index: g.label for g in guesses} == {0: "left", 1: "right", 2: "upwards"}

    def test_all_views_have_a_say(self, clips: dict[str, Path]) -> None:
        model, path = Brightness(), clips["carphone_pristine.mp4"]
        result = Predictor(model, clips=2, crops=3, window=2).predict(path)
        assert model.asked == [(6, 3, 4, 16, 16)] * 2  # one call a window, none before
        assert result.cost.frames_used == 16

    def test_a_second_look_gives_the_same_answer(self, clips: dict[str, Path]) -> None:
        predictor = Predictor(small_tsm(), window=1)
        first, second = (predictor.predict(clips["carphone_pristine.mp4"]) for _ in range(2))
        assert first.predictions == second.predictions
        assert first.segments == second.segments
        assert first.cost == second.cost

    def test_real_clips_have_a_label_a_cost_and_a_time(self, clips: dict[str, Path]) -> None:
        model = small_tsm()
        view = torch.zeros(1, 3, 4, 32, 32)
        for path in clips.values():
            result = Predictor(model, crops=3).predict(path)
            assert (result.status, len(result.predictions)) == ("ok", 3)
            assert result.cost.gmacs == pytest.approx(3 * count_macs(model, view).total / 1e9)
            assert 0 < result.cost.frames_used <= result.cost.frames_decoded
            assert set(result.timing_ms) == {"decode", "transform", "model"}
            assert all(ms > 0 for ms in result.timing_ms.values())

    def test_a_model_that_chooses_says_what_it_really_spent(self, clips: dict[str, Path]) -> None:
        torch.manual_seed(0)
        lazy = foveate.create_model("adafocus_small", 3, frames=4, skip=True, skip_threshold=1.0)
        eager = foveate.create_model("adafocus_small", 3, frames=4, skip=True, skip_threshold=0.0)
        eager.load_state_dict(lazy.state_dict())
        few, many = (Predictor(model).predict(clips["bikes.mp4"]) for model in (lazy, eager))
        assert (few.cost.patches, many.cost.patches) == (0, 4)
        assert few.cost.gmacs < many.cost.gmacs
        assert [box.looked for box in many.boxes] == [True] * 4
        left, top, right, bottom = many.boxes[0].box
        assert right - left == pytest.approx(bottom - top, abs=1)
        assert "boxes" not in many.to_dict() and len(many.to_dict(choices=True)["boxes"]) == 4

    def test_pictures_and_arrays_are_videos_too(self, tmp_path: Path) -> None:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number in range(1, 6):
            Image.new("RGB", (40, 30), (240, 240, 240)).save(folder / f"img_{number:05d}.png")
        np.save(tmp_path / "array.npy", np.full((5, 30, 40, 3), 10, np.uint8))
        predictor = Predictor(Brightness())
        assert predictor.predict(folder).predictions[0].label == "bright"
        assert predictor.predict(VideoEntry(str(folder), template="img_{:05d}.png")).status == "ok"
        assert predictor.predict(tmp_path / "array.npy").predictions[0].label == "dark"


class TestBadVideos:
    def test_nothing_in_the_corpus_stops_the_run(self, corpus: tuple[Path, dict]) -> None:
        """Whoever samples a few frames cannot see that the last one of a cut transport stream is damaged."""
        folder, manifest = corpus
        wanted = {entry["file"]: entry["policy"] for entry in manifest["files"]}
        wanted["cut.ts"] = "accept"
        results = Predictor(Brightness()).predict_all(folder / name for name in wanted)
        said = {"ok": "accept", "partial": "partial", "refused": "refuse"}
        found = {Path(result.video).name: said[result.status] for result in results}
        assert found == {name: "refuse" if policy == "either" else policy for name, policy in wanted.items()}

    @pytest.mark.parametrize("kind", ["zeroed_middle", "bit_flips_mpeg2", "one_bad_jpeg"])
    def test_damage_found_while_reading_is_reported_and_the_rest_used(
        self, kind: str, tmp_path: Path
    ) -> None:
        path = tmp_path / KINDS[kind][0].file
        KINDS[kind][1](path)
        result = Predictor(Brightness()).predict(path)
        assert result.status == "partial"
        assert "cannot be decoded" in (result.cause or "")
        assert result.segments[-1].end_s == result.duration_s < 2.0
        assert len(result.predictions) == 2

    @pytest.mark.parametrize("kind", ["text_renamed", "audio_only", "no_mdat", "zero_byte"])
    def test_a_file_without_a_picture_is_refused_with_its_cause(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.mp4"
        KINDS[kind][1](path)
        predictor = Predictor(Brightness())
        with pytest.raises(DataError) as refusal:
            predictor.predict(path)
        assert str(path) in str(refusal.value)
        (result,) = predictor.predict_all([path])
        assert (result.status, result.cause, result.predictions) == ("refused", refusal.value.cause, ())

    def test_names_survive(self, tmp_path: Path) -> None:
        source = write_video(tmp_path / "source", (1, 200))
        paths = [Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))) for name in ODD_NAMES]
        for path in paths:
            shutil.copy(source, path)
        results = list(Predictor(Brightness()).predict_all(paths))
        assert [(result.video, result.status) for result in results] == [(str(path), "ok") for path in paths]
        for result, path in zip(results[:-1], paths, strict=False):
            assert json.loads(json.dumps(result.to_dict()))["video"] == str(path)
        written = json.dumps(results[-1].to_dict(), ensure_ascii=False).encode()  # no surrogate is left
        assert "\\udcff\\udcfe.mp4" in json.loads(written)["video"]


class TestUse:
    @pytest.mark.parametrize(
        "options", [{"top": 0}, {"clips": 0}, {"crops": 2}, {"window": -1.0}, {"window": float("nan")}]
    )
    def test_impossible_numbers_are_refused_before_any_video(self, options: dict) -> None:
        with pytest.raises(UsageError):
            Predictor(Brightness(), **options)

    def test_as_the_readme_shows(self, tmp_path: Path, clips: dict[str, Path]) -> None:
        model = small_tsm()
        model.trained_on = "this test"
        save_model(model, tmp_path / "best.safetensors")
        result = foveate.predict(clips["bikes.mp4"], tmp_path / "best.safetensors")
        again = foveate.predict(str(clips["bikes.mp4"]), str(tmp_path / "best.safetensors"), top=1)
        assert result.label == again.top[0].label in model.labels
        expected = vars(Predictor(model).predict(clips["bikes.mp4"])) | {"timing_ms": result.timing_ms}
        assert result.to_dict() == Prediction(**expected).to_dict()
        assert result.trained_on == "this test"
        assert foveate.load_model(tmp_path / "best.safetensors").labels == model.labels
        assert "tsm_r10_8" in foveate.list_models("tsm_*")
        assert dir(foveate) == sorted(foveate.__all__)

    def test_a_result_saves_and_shows_itself(
        self, tmp_path: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with foveate_video(clips["carphone_pristine.mp4"]) as video:
            frames = video.read(range(40))
        for source, model in ((clips["bikes.mp4"], "adafocus_small"), (frames, small_tsm())):
            result = foveate.predict(source, model)
            with Image.open(result.save(tmp_path / "sheet.png")) as sheet:
                assert sheet.width == 4 * 320
            assert json.loads(result.save(tmp_path / "r.json").read_text())["video"] == result.video
            names, row = csv.reader(result.save(tmp_path / "r.csv").read_text().splitlines())
            assert dict(zip(names, row, strict=True))["label_1"] == result.label
            page = result._repr_html_()
            assert result.label in page and "data:image/jpeg;base64," in page and "http" not in page
            result.show()
            assert result.label in capsys.readouterr().out
        with pytest.raises(UsageError, match="does not end in"):
            result.save(tmp_path / "r.doc")

    def test_without_a_network_objects_are_named_and_said_to_be_objects(
        self,
        clips: dict[str, Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
        monkeypatch.delenv("FOVEATE_MIRROR", raising=False)
        monkeypatch.setattr("foveate.weights.load._reachable", lambda url: False)
        result = foveate.predict(clips["bikes.mp4"])
        assert result.model == "tsn_lite0_8" and "not actions" in result.trained_on
        assert "objects, not actions" in caplog.text and not result.label.startswith("class ")

    def test_a_model_at_hand_is_the_default_and_says_what_it_knows(
        self, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = ParityCase("slowfast/ptv_x3d_s").state_dict()
        torch.save({"model_state": state}, tmp_path / "X3D_S.pyth")
        monkeypatch.setenv("FOVEATE_MIRROR", str(tmp_path))
        result = foveate.predict(clips["bikes.mp4"])
        assert result.model == "x3d_s" and result.trained_on.startswith("Kinetics-400")
        assert not result.label.startswith("class ")

    def test_a_model_file_that_is_not_there(self, clips: dict[str, Path]) -> None:
        with pytest.raises(ModelFileError, match="is the path right"):
            foveate.predict(clips["bikes.mp4"], "none.safetensors")

    def test_classes_without_names_are_numbered(self, clips: dict[str, Path]) -> None:
        model = small_tsm()
        model.labels = ()
        assert Predictor(model).predict(clips["bikes.mp4"]).predictions[0].label.startswith("class ")
