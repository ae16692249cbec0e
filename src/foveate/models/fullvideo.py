"""Full video: the stem and first stage see every frame, the rest one map for each cluster of frames.

Liu et al., "No Frame Left Behind: Full Video Action Recognition", CVPR 2021 (arXiv 2103.15395). Consecutive
frames whose activations have nearly the same signs are averaged (layers/cluster.py); behind that, a shift
reaches from cluster to cluster. What differs from the released code: evaluation clusters too, the shift does
not depend on the batch size, videos of a batch may differ in length, and the early part can be streamed, so
that memory does not grow with the video (layers/streamed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from foveate.backbones.build import STRIDES, Backbone2D, StagedNet, Stem, build_backbone
from foveate.backbones.resnet2d import Strides
from foveate.backbones.slots import Temporal, temporal_slot
from foveate.clip import ClipSpec, Sampling
from foveate.layers.aggregate import TAM, AggregationConfig
from foveate.layers.cluster import Aggregate, Clusters, TemporalClustering
from foveate.layers.cluster_rules import Rule, middles
from foveate.layers.ragged import Ragged
from foveate.layers.streamed import stream_clusters
from foveate.models.base import Frames, ModelOutput, VideoModel, every_frame
from foveate.models.tsn import ConsensusHead

HELD = 1 << 29  # bytes of maps that are held rather than computed twice: 668 frames of ResNet-18 at 224 px
Mode = Literal["cluster", "uniform", "all"]
"""What the late part sees: the clusters | as many frames, evenly spaced | every frame."""


@dataclass(frozen=True)
class FullVideoConfig:
    backbone: Backbone2D = "resnet18"
    num_classes: int = 400
    frames: int = 32  # of a clip; at most so many with sampling "all"
    sampling: Sampling = "segments"  # all: every frame of the video
    clusters: int = 8  # g, maps that the late part sees
    after: int = 1  # stage behind which frames are clustered; 0: the stem
    rule: Rule = "cumulative"
    aggregate: Aggregate = "mean"
    lasting: bool = False  # distances that ignore single odd frames (own addition)
    floor: bool = False  # of the cumulative rule: distances less what noise adds to them (own addition)
    lose_last: bool = False  # leave the last cluster out, as the release's cumulative rule does
    train_mode: Mode = "cluster"
    eval_mode: Mode = "cluster"  # the release: uniform
    # whole: learns in one graph | kept: chunk by chunk, maps held between its passes | streamed: nothing held
    # | frozen: does not learn. All but the first leave the early norms' statistics alone. What needs no
    # gradient, frozen or in evaluation, holds maps while they are few (HELD).
    early: Literal["whole", "kept", "streamed", "frozen"] = "whole"
    chunk: int = 16  # frames at once in the early part, where it is not whole
    temporal: Temporal = "shift"  # of the late part
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # how, if temporal says so
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side before the test crop, pixels
    width: float = 1.0  # multiplier of the channels (ResNets and MobileNetV2)
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images (ResNets)
    strides: Strides = STRIDES  # of a ResNet's stages
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; at least one frame is run at once")
        if self.temporal == "past":
            raise ValueError("clusters are known at the end of a video: a one-sided shift has no use")

    def build(self) -> FullVideo:
        """The untrained model."""
        slot = temporal_slot(self.temporal, self.backbone, self.shift_div, self.aggregation)

        def late_slot(stage: int, block: int, channels: int) -> nn.Module | None:
            return slot(stage, block, channels) if stage > self.after else None

        net = build_backbone(self.backbone, self.width, self.stem, late_slot, strides=self.strides)
        if not isinstance(net, StagedNet):
            raise ValueError(f"{self.backbone} does not divide into an early and a late part")
        if not 0 <= self.after < len(net.stages):
            last = len(net.stages) - 1
            raise ValueError(
                f"after is {self.after}; choose 0 to {last}: a stage must stand behind the clusters"
            )
        clustering = TemporalClustering(
            self.clusters, self.rule, self.aggregate, self.lasting, self.floor, self.lose_last
        )
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        spec = ClipSpec(self.frames, self.sampling, 1, self.size, self.resize, net.mean, net.std)
        return FullVideo(net, clustering, head, spec, self)


@dataclass(frozen=True)
class ClusterAnswer:
    """What became of the frames of B videos of up to T frames, in g clusters each.

    logits: (B, classes), the mean of step_logits (B, g, classes); in mode all g is the longest video's T, and
    rows of 0 behind the end of a shorter one do not count. assignment: (B, T), cluster of each frame, -1
    where the video has ended or the frame was not looked at. sizes: (B, g), frames of each cluster; a
    cluster of 0 repeats the last one. distances: (B, T - 1), differing bits of neighbours, or what the rule
    made of them; 0 without clustering.
    """

    logits: Tensor
    step_logits: Tensor
    assignment: Tensor
    sizes: Tensor
    distances: Tensor
    features: Tensor  # (B, C'), what is classified, averaged over the clusters
    map_shape: torch.Size  # (C, h, w) of a map between the two parts
    passes: int = 1  # how often the early part ran on each frame


class FullVideo(VideoModel):
    """A backbone whose first stages see every frame and whose others see clusters of them."""

    takes_chunks = True
    parts = ("early", "late", "classify")

    def __init__(
        self,
        backbone: StagedNet,
        clustering: TemporalClustering,
        head: ConsensusHead,
        spec: ClipSpec,
        config: FullVideoConfig,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.clustering = clustering
        self.head = head
        self.spec = spec
        self.config = config
        self.dynamic = spec.sampling == "all"  # as many frames as the video has
        self.reports = ("frame_logits", *(["clusters"] if config.eval_mode == "cluster" else []))
        if config.early == "frozen":
            for parameter in self.early_parameters():
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> FullVideo:
        """Training mode; the norms of an early part that is run in chunks keep evaluating."""
        super().train(mode)
        if self.config.early != "whole":
            for module in self._early_modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def prepare(self, frames: Frames, device: torch.device | str | None = None) -> Any:
        """Bytes as they are: floats are made of a chunk of frames at a time, where it is used."""
        return list(frames) if isinstance(frames, Tensor) else frames

    def forward(self, clip: Tensor | Sequence[Tensor] | Iterable[Tensor]) -> Tensor:
        """Logits (B, classes).

        clip: (B, 3, T, H, W) floats, any T; a list or tuple of videos as `cluster_videos` takes them; or
        another iterable, the chunks of one video as `cluster_chunks` takes them.
        """
        return self._answer_to(clip).logits

    def output(self, clip: Tensor | Sequence[Tensor] | Iterable[Tensor]) -> ModelOutput:
        """The answer, the logits of every cluster and which frames it holds. clip: as in `forward`."""
        answer = self._answer_to(clip)
        side: Sequence[int] = (self.spec.size, self.spec.size)  # that of chunks: they are cut for this model
        if isinstance(clip, Tensor):
            side = clip.shape[3:]
        elif isinstance(clip, Sequence):
            side = clip[0].shape[1:3] if clip[0].dtype == torch.uint8 else clip[0].shape[2:]
        clusters = answer.assignment.cpu()
        return ModelOutput(
            logits=answer.logits,
            frames_read=clusters >= 0,
            macs=None if self.training else self._macs(clusters >= 0, side, answer),
            features=answer.features,
            frame_logits=answer.step_logits,
            clusters=clusters if self._mode == "cluster" else None,
        )

    def _answer_to(self, clip: Tensor | Sequence[Tensor] | Iterable[Tensor]) -> ClusterAnswer:
        if isinstance(clip, Tensor):
            return self.cluster_videos(clip.unbind(0))
        return self.cluster_videos(clip) if isinstance(clip, Sequence) else self.cluster_chunks(clip)

    def cluster_videos(self, videos: Sequence[Tensor]) -> ClusterAnswer:
        """Answer videos of any lengths, without a frame of padding: each as if it were alone.

        videos: (3, T, H, W) float, normalised, or (T, H, W, 3) uint8 as decoded, which may stay on the host
        and are normalised where they are used.
        """
        frames = [video if video.dtype == torch.uint8 else video.transpose(0, 1) for video in videos]
        if self._mode == "all":
            return self._answer_all(frames)
        if self._mode == "uniform":
            return self._answer_uniform(frames)
        return self._answer(self._cluster(self.clustering, frames))

    def cluster_chunks(self, chunks: Iterable[Tensor]) -> ClusterAnswer:
        """One video of any length as chunks (k, H, W, 3) of uint8, k free.

        Clustering holds one of them at a time, and maps as `early` of the configuration says; the modes
        uniform and all hold all bytes, and the latter a map of every frame. chunks: gone through up to three
        times, so a list or what decodes anew, no iterator. Training with early=whole raises ValueError: its
        norms would see chunks, not the video.
        """
        if self.training and self.config.early == "whole":
            raise ValueError("to learn from chunks, the early part must be streamed or frozen (early=...)")
        if self._mode != "cluster":
            return self.cluster_videos([torch.cat(list(chunks))])
        return self._answer(self._stream(self.clustering, chunks, None))

    @property
    def frames_needed(self) -> Callable[[int], list[int]]:
        return partial(_middles_of, self.config.clusters) if self._mode == "uniform" else every_frame

    def _macs(self, read: Tensor, side: Sequence[int], answer: ClusterAnswer) -> Tensor:
        """Multiply-adds of each clip, (B,): the early part on its frames, the late part on its clusters."""
        early = answer.passes * self.part_macs("early", torch.empty(1, 3, *side, device="meta"))
        counts = read.sum(1).tolist()
        seen = counts if self._mode == "all" else [answer.sizes.shape[1]] * len(counts)
        late = {n: self._late_macs(n, answer) for n in {*seen}}
        return torch.tensor([own * early + late[n] for own, n in zip(counts, seen, strict=True)])

    def _late_macs(self, maps: int, answer: ClusterAnswer) -> int:
        """Multiply-adds of what follows on so many maps of one clip."""
        shape, width = answer.map_shape, answer.features.shape[1]
        late = self.part_macs("late", torch.empty(maps, *shape, device="meta"), maps)
        return late + self.part_macs("classify", torch.empty(maps, width, device="meta"))

    def early(self, frames: Tensor) -> Tensor:
        """The part that sees every frame, each alone. frames: (k, 3, H, W), or uint8 (k, H, W, 3)."""
        maps = self.backbone.stem(self._normalised(frames))
        for stage in self.backbone.stages[: self.config.after]:
            maps = stage(maps, len(maps))
        return maps

    def late(self, maps: Tensor, num_frames: int) -> Tensor:
        """The part behind the clustering. maps: (B*g, C, h, w). Returns features (B*g, C')."""
        for stage in self.backbone.stages[self.config.after :]:
            maps = stage(maps, num_frames)
        return self.head.features(self.backbone.last(maps))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) of features (..., C')."""
        return self.head.classify(features)

    def early_parameters(self) -> list[nn.Parameter]:
        """Those that every frame meets."""
        return [own for module in self._early_modules() for own in module.parameters(recurse=False)]

    @property
    def _mode(self) -> Mode:
        return self.config.train_mode if self.training else self.config.eval_mode

    @property
    def _in_one_graph(self) -> bool:
        return self.config.early == "whole" and (self.training or torch.is_grad_enabled())

    def _early_modules(self) -> Iterator[nn.Module]:
        """All modules of the backbone that do not stand behind the clustering."""
        behind = (*self.backbone.stages[self.config.after :], self.backbone.last)
        late = {module for part in behind for module in part.modules()}
        return (module for module in self.backbone.modules() if module not in late)

    def _normalised(self, frames: Tensor) -> Tensor:
        if frames.dtype != torch.uint8:
            return frames
        first = self.early_parameters()[0]
        pixels = frames.to(first.device).to(first.dtype)
        scale = 255 * pixels.new_tensor((self.spec.mean, self.spec.std))
        return pixels.sub_(scale[0]).div_(scale[1]).permute(0, 3, 1, 2)

    def _cluster(self, clustering: TemporalClustering, videos: Sequence[Tensor]) -> Clusters:
        """videos: of frames first, floats or bytes."""
        lengths = [len(video) for video in videos]
        if self._in_one_graph:
            return clustering(self.early(torch.cat(list(videos))), lengths)
        return self._stream(clustering, self._chunks(videos), lengths)

    def _stream(
        self, clustering: TemporalClustering, chunks: Iterable[Tensor], lengths: Sequence[int] | None
    ) -> Clusters:
        hold = {"kept": float("inf"), "streamed": 0}.get(self.config.early, HELD)
        return stream_clusters(clustering, self.early, self.early_parameters(), chunks, lengths, hold)

    def _chunks(self, videos: Sequence[Tensor]) -> list[Tensor]:
        return [chunk for video in videos for chunk in video.split(self.config.chunk)]

    def _answer(self, clusters: Clusters) -> ClusterAnswer:
        found = clusters.grouping
        features = self.late(clusters.maps, found.sizes.shape[1]).unflatten(0, found.sizes.shape)
        steps = self.classify(features)
        return ClusterAnswer(
            steps.mean(1),
            steps,
            found.assignment,
            found.sizes,
            found.distances,
            features.mean(1),
            clusters.maps.shape[1:],
            clusters.passes,
        )

    def _answer_uniform(self, videos: Sequence[Tensor]) -> ClusterAnswer:
        """Only g frames of each video are run, each a cluster of its own."""
        places = [middles([len(video)], self.config.clusters) for video in videos]
        picked = [video[where] for video, where in zip(videos, places, strict=True)]
        answer = self._answer(self._cluster(TemporalClustering(self.config.clusters, "even"), picked))
        assignment = answer.assignment.new_full((len(videos), max(map(len, videos))), -1)
        for row, own, where in zip(assignment, answer.assignment, places, strict=True):
            row[where] = own[: len(where)]
        return replace(answer, assignment=assignment)

    def _answer_all(self, videos: Sequence[Tensor]) -> ClusterAnswer:
        """Every frame goes all the way; videos of different lengths one by one."""
        lengths = [len(video) for video in videos]
        alike = len(set(lengths)) == 1
        maps = self._every_map(videos)
        parts = [maps] if alike else maps.split(lengths)
        counts = lengths[:1] if alike else lengths
        answers = [self.late(part, count) for part, count in zip(parts, counts, strict=True)]
        features = torch.cat(answers).split(lengths)
        found = [self.classify(own) for own in features]
        steps = nn.utils.rnn.pad_sequence(found, batch_first=True)  # (B, T, classes)
        logits = torch.stack([own.mean(0) for own in found])
        frames = Ragged(lengths, logits.device)
        assignment = torch.where(frames.inside, frames.times, -1)
        sizes = frames.inside.long()
        distances = torch.zeros_like(sizes[:, 1:])
        mean = torch.stack([own.mean(0) for own in features])
        return ClusterAnswer(logits, steps, assignment, sizes, distances, mean, maps.shape[1:])

    def _every_map(self, videos: Sequence[Tensor]) -> Tensor:
        if self._in_one_graph:
            return self.early(torch.cat(list(videos)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.early != "frozen"):
            return torch.cat([self.early(chunk) for chunk in self._chunks(videos)])


def _middles_of(clusters: int, frames: int) -> list[int]:
    return middles([frames], clusters)
