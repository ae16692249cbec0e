"""Full video: streaming changes nothing but memory, a video does not notice its batch, every mode answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from foveate.data.dataset import Batch
from foveate.data.synthetic.encode import encode_h264
from foveate.errors import UsageError
from foveate.layers.normalise import to_clip
from foveate.layers.temporal import TemporalShift
from foveate.measure.cost import count_macs
from foveate.models.fullvideo import FullVideo, FullVideoConfig
from foveate.models.zoo import create_model
from foveate.train.config import TrainConfig
from foveate.train.job import TrainJob
from foveate.train.objective import Classification
from foveate.train.optim import learn_mode
from foveate.train.stages import train_model
from foveate.weights.origins import find_origin

SIDE, CLASSES = 32, 3
TINY = FullVideoConfig(
    "resnet10", CLASSES, clusters=4, width=0.25, stem="small", size=SIDE, resize=SIDE, dropout=0.0, chunk=3
)


def build(seed: int = 0, **fields: object) -> FullVideo:
    torch.manual_seed(seed)
    model = replace(TINY, **fields).build()
    nn.init.normal_(model.head.linear.weight)
    return model.eval()


def video(frames: int, seed: int = 0) -> Tensor:
    """(3, T, S, S), drifting slowly."""
    noise = torch.randn(3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return noise.cumsum(1) / torch.arange(1, frames + 1).sqrt().view(-1, 1, 1)


def still_norms(model: FullVideo) -> FullVideo:
    """Training mode, with the norms of the early part as streaming needs them."""
    model.train()
    for name, module in model.backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name.startswith(("bn1", "layer1")):
            module.eval()
    return model


def learn(model: FullVideo, videos: list[Tensor], bf16: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of some videos, and the gradient of a loss of theirs."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model.cluster_videos(videos).logits
        loss = F.cross_entropy(logits.float(), torch.arange(len(videos)) % CLASSES)
    loss.backward()
    return logits.detach(), {name: own.grad for name, own in model.named_parameters()}


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    flat = [torch.cat([one.flatten() for one in each.values()]) for each in (ours, theirs)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def test_a_big_little_network_divides_as_the_others_do() -> None:
    fields = {"backbone": "blresnet26", "width": 0.25, "stem": "large", "after": 2}
    videos = [video(7)]
    plain, streamed = build(**fields).train(), build(early="streamed", **fields).train()
    for name, module in plain.backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not name.startswith(("layer3", "layer4")):
            module.eval()
    ours, gradient = learn(streamed, videos)
    theirs, expected = learn(plain, videos)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert gradient.keys() == expected.keys() and difference(gradient, expected) < 1e-4


@pytest.mark.parametrize("early", ["kept", "streamed"])
@pytest.mark.parametrize("clusters", [1, 4])
@pytest.mark.parametrize("lengths", [[10], [7, 1, 5]])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_streaming_gives_the_same_gradient(
    early: str, clusters: int, lengths: list[int], dtype: torch.dtype, bound: float
) -> None:
    videos = [video(length, seed).to(dtype) for seed, length in enumerate(lengths)]
    plain = still_norms(build(clusters=clusters)).to(dtype)
    streamed = build(clusters=clusters, early=early).to(dtype).train()
    ours, gradient = learn(streamed, videos)
    theirs, expected = learn(plain, videos)
    assert torch.allclose(ours, theirs, rtol=bound, atol=bound)
    assert gradient.keys() == expected.keys() and difference(gradient, expected) < bound
    for (name, own), other in zip(streamed.named_buffers(), plain.buffers(), strict=True):
        assert torch.allclose(own, other.to(own.dtype), rtol=bound, atol=bound), name  # moved once


def test_streaming_under_autocast_learns_in_the_same_precision() -> None:
    videos = [video(9)]
    _, ours = learn(build(early="streamed").train(), videos, bf16=True)
    _, theirs = learn(still_norms(build()), videos, bf16=True)
    assert min(float(own.norm()) for name, own in ours.items() if "layer1" in name) > 0
    assert difference(ours, theirs) < 0.05


def test_streaming_holds_no_activations() -> None:
    def saved(model: FullVideo, frames: int) -> int:
        kept = {}

        def note(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.cluster_videos([video(frames)]).logits.sum()
        return sum(kept.values())

    short, long = (saved(build(early="streamed").train(), frames) for frames in (16, 64))
    assert long < 1.01 * short + 64 * 8  # a cluster number for each frame
    assert saved(still_norms(build()), 64) > 2.5 * saved(still_norms(build()), 16)


def test_the_frozen_early_part_stays_and_the_rest_learns() -> None:
    model = build(early="frozen")
    learn_mode(model)
    before = {name: own.clone() for name, own in model.state_dict().items()}
    _, gradient = learn(model, [video(9), video(5, 1)])
    silent = {name.split(".")[1] for name, own in gradient.items() if own is None}
    assert silent == {"conv1", "bn1", "layer1"}
    moved = {name.split(".")[1] for name, own in model.state_dict().items() if not own.equal(before[name])}
    assert moved == {"layer2", "layer3", "layer4"}  # running statistics


def spread_error(spread: float) -> float:
    """How far n frames' gradient is from n times that of their mean, relative. See docs/theory.md."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 64, generator=draw, dtype=torch.float64)
    middle = torch.randn(64, generator=draw, dtype=torch.float64)
    features = middle + spread * torch.randn(8, 64, generator=draw, dtype=torch.float64)
    target = F.one_hot(torch.tensor(0), 10)

    def gradient(h: Tensor) -> Tensor:
        return ((h @ weight.T).softmax(-1) - target).T @ h

    mean = features.mean(0, keepdim=True)
    exact = gradient(features)
    return float((exact - 8 * gradient(mean)).norm() / exact.norm())


def test_halving_the_spread_quarters_the_error_of_the_gradient() -> None:
    errors = [spread_error(0.01 / 2**halvings) for halvings in range(4)]
    falls = [before / after for before, after in pairwise(errors)]
    assert all(3.4 < fall < 4.6 for fall in falls), falls


def test_frames_of_the_same_signs_may_be_averaged_exactly() -> None:
    """A network without norm is linear where no ReLU changes its sign."""
    torch.manual_seed(0)
    late = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5)).double()
    frame = torch.randn(12, dtype=torch.float64)
    near = torch.stack([frame, frame + 1e-4, frame - 2e-4])
    assert torch.equal(late[:2](near) > 0, (late[:2](frame) > 0).expand(3, -1))
    assert torch.allclose(late(near.mean(0)), late(near).mean(0), rtol=1e-12)


@pytest.mark.parametrize("fields", [{}, {"rule": "slope"}, {"lasting": True, "floor": True}, {"after": 0}])
@pytest.mark.parametrize("mode", ["cluster", "uniform", "all"])
def test_a_batch_of_different_lengths_is_each_alone(mode: str, fields: dict[str, object]) -> None:
    model = build(eval_mode=mode, **fields)
    videos = [video(length, seed) for seed, length in enumerate((9, 1, 20, 3))]
    with torch.no_grad():
        together = model.cluster_videos(videos)
        for number, each in enumerate(videos):
            alone = model.cluster_videos(each.unsqueeze(0))
            length = each.shape[1]
            assert torch.allclose(together.logits[number], alone.logits[0], atol=1e-5)
            assert torch.equal(together.assignment[number, :length], alone.assignment[0])
            assert (together.assignment[number, length:] == -1).all()


@pytest.mark.parametrize("mode", ["cluster", "uniform", "all"])
def test_logits_are_the_mean_of_the_steps_of_each_video(mode: str) -> None:
    model, lengths = build(eval_mode=mode), (9, 2)
    with torch.no_grad():
        answer = model.cluster_videos([video(length) for length in lengths])
    for length, logits, steps in zip(lengths, answer.logits, answer.step_logits, strict=True):
        own = length if mode == "all" else 4
        assert torch.allclose(logits, steps[:own].mean(0), atol=1e-6) and not steps[own:].any()


def test_the_shift_does_not_depend_on_the_batch() -> None:
    model, still = build(), build(temporal="none")
    clip = torch.stack([video(12, seed) for seed in range(3)])
    with torch.no_grad():
        assert torch.allclose(model(clip)[1], model(clip[1:2])[0], atol=1e-5)
        assert not torch.allclose(model(clip[:1]), still(clip[:1]), atol=1e-3)


def test_only_the_late_part_shifts() -> None:
    for after in (0, 1, 3):
        names = {name.split(".")[0] for name, m in build(after=after).backbone.named_modules()
                 if isinstance(m, TemporalShift)}  # fmt: skip
        assert names == {f"layer{stage}" for stage in range(after + 1, 5)}


def test_a_constant_video_says_what_one_frame_says() -> None:
    frame = video(1)
    model = build()
    with torch.no_grad():
        answer = model.cluster_videos(frame.expand(-1, 11, -1, -1).unsqueeze(0))
        assert answer.assignment[0].tolist() == [t * 4 // 11 for t in range(11)]
        assert torch.allclose(answer.logits, model(frame.unsqueeze(0)), atol=1e-5)  # four times the one frame


def test_fewer_frames_than_clusters_repeat_the_last_one() -> None:
    model, short = build(), video(2)
    repeated = short[:, [0, 1, 1, 1]].unsqueeze(0)
    with torch.no_grad():
        answer = model.cluster_videos(short.unsqueeze(0))
        assert answer.sizes.tolist() == [[1, 1, 0, 0]]
        assert torch.allclose(answer.logits, build(eval_mode="all")(repeated), atol=1e-5)


def test_as_many_clusters_as_frames_are_all_frames() -> None:
    clip = torch.stack([video(8), video(8, 1)])
    with torch.no_grad():
        clustered = build(clusters=8, rule="slope").cluster_videos(clip)
        every = build(eval_mode="all").cluster_videos(clip)
    assert torch.equal(clustered.assignment, every.assignment)
    assert torch.allclose(clustered.logits, every.logits, atol=1e-5)


def test_uniform_evaluation_looks_at_g_frames() -> None:
    model, clip = build(eval_mode="uniform"), video(20).unsqueeze(0)
    with torch.no_grad():
        answer = model.cluster_videos(clip)
        assert answer.assignment[0, [2, 7, 12, 17]].tolist() == [0, 1, 2, 3]
        assert (answer.assignment[0] >= 0).sum() == 4
        few = build(eval_mode="all")(clip[:, :, [2, 7, 12, 17]])
    assert torch.allclose(answer.logits, few, atol=1e-5)


def test_uniform_evaluation_needs_no_other_frame() -> None:
    model, clip = build(eval_mode="uniform"), video(20).unsqueeze(0)
    places = model.eval().frames_needed(20)
    assert places == [2, 7, 12, 17] and build().eval().frames_needed(3) == [0, 1, 2]
    with torch.no_grad():
        assert torch.allclose(model(clip), model(clip[:, :, places]), atol=1e-6)


@pytest.mark.parametrize("early", ["whole", "kept", "streamed"])
@pytest.mark.parametrize("mode", ["cluster", "uniform", "all"])
def test_a_model_in_half_precision_answers(mode: str, early: str) -> None:
    model = build(eval_mode=mode, early=early, size=16, resize=16).bfloat16()
    frames = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert model.cluster_videos([frames]).logits.dtype == torch.bfloat16
        assert model.cluster_chunks([frames]).logits.isfinite().all()


def test_the_cost_of_every_frame_depends_on_the_video() -> None:
    assert build(sampling="all").dynamic and not build().dynamic


def test_training_has_a_mode_of_its_own() -> None:
    model = build(train_mode="uniform")
    clip = video(12).unsqueeze(0)
    assert model.train().cluster_videos(clip).assignment.min() == -1
    assert model.eval().cluster_videos(clip).assignment.min() == 0


class Recorded:
    """Chunks of a video that count how often they are gone through."""

    def __init__(self, frames: Tensor, cuts: list[int]) -> None:
        self.frames, self.cuts, self.rounds = frames, cuts, 0

    def __iter__(self) -> Iterator[Tensor]:
        self.rounds += 1
        yield from self.frames.split(self.cuts)


@pytest.mark.parametrize(
    ("early", "held", "rounds"), [("whole", 1 << 20, 1), ("whole", 0, 2), ("frozen", 0, 2), ("kept", 0, 1)]
)
def test_maps_are_held_while_they_are_few(
    early: str, held: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of this network is 8 KB; what is not held is computed again, and nothing else changes."""
    frames = torch.randint(0, 256, (40, SIDE, SIDE, 3), dtype=torch.uint8)
    chunks = Recorded(frames, [7, 33])
    model = build(early=early)
    with torch.no_grad():
        expected = model.cluster_videos([frames]).logits
        monkeypatch.setattr("foveate.models.fullvideo.MAX_KEPT_BYTES", held)
        assert torch.allclose(model.cluster_chunks(chunks).logits, expected, atol=1e-5)
    assert chunks.rounds == rounds


@pytest.mark.parametrize("mode", ["cluster", "uniform", "all"])
def test_a_long_video_comes_as_bytes_in_chunks(mode: str) -> None:
    model = build(eval_mode=mode, early="streamed")
    frames = torch.randint(0, 256, (25, SIDE, SIDE, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1, 1) for each in (model.spec.mean, model.spec.std))
    clip = (frames.permute(3, 0, 1, 2) / 255 - mean) / std
    chunks = Recorded(frames, [10, 1, 14])
    with torch.no_grad():
        answer = model.cluster_chunks(chunks)
        assert torch.allclose(answer.logits, model(clip.unsqueeze(0)), atol=1e-4)
        assert torch.allclose(answer.logits, model.cluster_videos([frames]).logits, atol=1e-5)
    assert chunks.rounds == (2 if mode == "cluster" else 1)


def test_chunks_teach_as_the_whole_video_does() -> None:
    frames = torch.randint(0, 256, (9, SIDE, SIDE, 3), dtype=torch.uint8)
    in_chunks, at_once = build(early="streamed").train(), build(early="streamed").train()
    in_chunks.cluster_chunks(list(frames.split(4))).logits.square().sum().backward()
    at_once.cluster_videos([frames]).logits.square().sum().backward()
    ours, theirs = ({k: p.grad for k, p in m.named_parameters()} for m in (in_chunks, at_once))
    assert difference(ours, theirs) < 1e-5
    with pytest.raises(ValueError, match="early"):
        build().train().cluster_chunks([frames])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two videos each, of 20 to 90 frames."""
    folder = tmp_path_factory.mktemp("films")
    for number, length in enumerate((20, 90, 31, 50)):
        frames = np.random.default_rng(number).integers(0, 256, (length, 4, 6, 3), dtype=np.uint8)
        path = folder / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_h264(frames.repeat(8, 1).repeat(8, 2), 10, 18))
    return folder


@pytest.mark.parametrize("early", ["whole", "streamed"])
def test_whole_videos_of_different_lengths_are_one_batch(films: Path, tmp_path: Path, early: str) -> None:
    settings = ("sampling=all", "frames=1000", f"early={early}", "size=32", "resize=32", "clusters=3")
    job = TrainJob(films, tmp_path, "fullvideo_small", films, settings=settings, workers=0,
                   train=TrainConfig(epochs=1, batch=4, rate=0.01))  # fmt: skip
    seen = []
    with register_module_forward_hook(lambda module, given, _: seen.append((module, given[0]))):
        model, outcome = train_model(job)
    assert outcome.steps == 1 and outcome.scores["n_ok"] == 4
    late = [maps.shape for module, maps in seen if module is model.backbone.layer4[0].bn1]
    assert len(late[0]) == 4 and late[0][0] == 4 * 3, "the late norms see the clusters of the whole batch"


def test_bytes_teach_as_the_floats_of_a_clip_do() -> None:
    frames = torch.randint(0, 256, (2, 1, 9, SIDE, SIDE, 3), dtype=torch.uint8)
    batch = Batch(frames, torch.tensor([0, 2]), torch.arange(2))
    model = build().train()
    values = Classification()(model, batch)
    logits = model(to_clip(frames[:, 0], model.spec))
    assert torch.allclose(values["loss"], F.cross_entropy(logits, batch.labels), atol=1e-5)
    ragged = Classification()(model, replace(batch, frames=list(frames)))
    assert torch.allclose(values["loss"], ragged["loss"], atol=1e-6)


def test_the_example_of_the_docs_groups_inside_other_networks() -> None:
    page = (Path(__file__).parents[1] / "docs/models/fullvideo.md").read_text()
    (example,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "grouped" in block
    )
    clip, patches = torch.randn(2, 3, 12, 64, 64), torch.randn(32, 3, 32, 32)
    names: dict[str, Tensor] = {"clip": clip, "patches": patches}
    torch.manual_seed(0)
    with torch.no_grad():
        exec(example, names)
    assert names["logits"].shape == (2, 4) and names["looks"].shape[:2] == (2, 8)
    assert names["logits"].isfinite().all() and names["looks"].isfinite().all()


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0"])
def test_a_copy_of_a_network_runs_its_own_blocks(name: str) -> None:
    net = create_model("fullvideo_mnv2_32to8", CLASSES, backbone=name).backbone
    copy = deepcopy(net)
    blocks = [block for stage in copy.stages for block in stage]
    assert all(own is named for own, named in zip(blocks, copy.blocks, strict=True))
    assert not any(own is other for own, other in zip(blocks, net.blocks, strict=True))


def test_cost_is_every_frame_early_and_every_cluster_late() -> None:
    counts = {
        (t, g): count_macs(build(clusters=g), video(t).unsqueeze(0)).total for t in (8, 16) for g in (2, 4)
    }
    early = (counts[16, 4] - counts[8, 4]) / 8
    late = (counts[8, 4] - counts[8, 2]) / 2
    assert counts[16, 2] == 16 * early + 2 * late
    assert count_macs(build(eval_mode="all"), video(8).unsqueeze(0)).total == 8 * (early + late)


def test_the_papers_count_of_multiply_adds() -> None:
    """Liu et al.: 14.56 G for 8 frames, 28.61 G for 32 clustered to 8 (norms and activations counted too)."""
    clip = torch.empty(1, 3, 32, 224, 224, device="meta")
    with torch.device("meta"):
        clustered, plain = create_model("fullvideo_r18_32to8"), create_model("tsm_r18_8")
    assert count_macs(plain, clip[:, :, :8]).total == pytest.approx(14.56e9, rel=0.01)
    assert count_macs(clustered, clip).total == pytest.approx(28.61e9, rel=0.01)


def test_a_release_is_told_from_tsm_by_its_first_stage() -> None:
    early, late = "module.base_model.layer1.0.conv1", "module.base_model.layer2.0.conv1.net.weight"
    weight = torch.zeros(1)
    assert find_origin({f"{early}.weight": weight, late: weight}, Path("x")).name == "fullvideo"
    assert find_origin({f"{early}.net.weight": weight, late: weight}, Path("x")).name == "tsm"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"after": 4}, "choose 0 to 3: a stage must follow"),
        ({"clusters": 0}, "clusters is 0"),
        ({"chunk": 0}, "at least one frame"),
        ({"temporal": "past"}, "one-sided"),
        ({"rule": "slopes"}, "slopes"),
    ],
)
def test_wrong_requests_name_the_cause(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model("fullvideo_r18_32to8", **fields)
