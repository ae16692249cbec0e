"""Full video: the first stages run on every frame, the rest on one map per cluster of frames.

Liu et al., "No Frame Left Behind: Full Video Action Recognition", CVPR 2021 (arXiv 2103.15395). Consecutive
frames whose activations have similar signs are averaged (layers/cluster.py); after that, a temporal shift
exchanges features between clusters. "Early" and "late" are the parts of the network before and after the
clustering. Differences from the released code: clustering in evaluation too, the shift does not depend on the
batch size, videos of a batch may differ in length, and the early part can be streamed in constant memory
(layers/streamed.py).
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
from foveate.layers.cluster_rules import Rule, middle_frames
from foveate.layers.ragged import Ragged
from foveate.layers.streamed import stream_clusters
from foveate.models.base import Frames, ModelOutput, VideoModel, every_frame
from foveate.models.dials import CountDial
from foveate.models.pieces import Pieces
from foveate.models.portable import cluster_pieces
from foveate.models.tsn import ConsensusHead

MAX_KEPT_BYTES = 1 << 29  # of maps kept rather than computed twice; 668 frames of ResNet-18 at 224 pixels
Mode = Literal["cluster", "uniform", "all"]
"""Input of the late part: the clusters | as many frames, evenly spaced | every frame."""


@dataclass(frozen=True)
class FullVideoConfig:
    """Configuration of a full-video model."""

    backbone: Backbone2D = "resnet18"
    num_classes: int = 400
    frames: int = 32  # of a clip; an upper bound with sampling "all"
    sampling: Sampling = "segments"  # all: every frame of the video
    clusters: int = 8  # g, number of maps that the late part reads
    after: int = 1  # stage after which frames are clustered; 0: the stem
    rule: Rule = "cumulative"
    aggregate: Aggregate = "mean"
    lasting: bool = False  # distances that ignore single outlier frames (own addition)
    floor: bool = False  # subtract a noise floor from distances, cumulative rule only (own addition)
    lose_last: bool = False  # drop the last cluster, as the release's cumulative rule does
    train_mode: Mode = "cluster"
    eval_mode: Mode = "cluster"  # uniform in the release
    # how the early part is trained. whole: in one graph | kept: chunk by chunk, keeping its maps in between |
    # streamed: chunk by chunk in constant memory | frozen: not at all. All but "whole" leave the statistics
    # of its batch norms unchanged.
    early: Literal["whole", "kept", "streamed", "frozen"] = "whole"
    chunk: int = 16  # frames per chunk in the early part, unless it is trained as "whole"
    temporal: Temporal = "shift"  # of the late part
    shift_div: int = 8  # one channel in `shift_div` moves each way
    aggregation: AggregationConfig = TAM  # options of temporal="aggregation"
    size: int = 224  # side of the crop, pixels
    resize: int = 256  # short side to which frames are resized before the test crop, pixels
    width: float = 1.0  # multiplier of the channels (ResNets and MobileNetV2)
    stem: Stem = "large"  # 7x7 and pool, or 3x3 for small images (ResNets)
    strides: Strides = STRIDES  # of a ResNet's stages
    pool: Literal["average", "max"] = "average"  # over space, in front of the classifier
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; it must be at least one frame")
        if self.temporal == "past":
            raise ValueError(
                "temporal=past: clusters need the whole video, so a one-sided shift is of no use"
            )

    def build(self) -> FullVideo:
        """Build the untrained model."""
        slot = temporal_slot(self.temporal, self.backbone, self.shift_div, self.aggregation)

        def late_slot(stage: int, block: int, channels: int) -> nn.Module | None:
            return slot(stage, block, channels) if stage > self.after else None

        net = build_backbone(self.backbone, self.width, self.stem, late_slot, strides=self.strides)
        if not isinstance(net, StagedNet):
            raise ValueError(f"{self.backbone} cannot be divided into an early and a late part")
        if not 0 <= self.after < len(net.stages):
            last = len(net.stages) - 1
            raise ValueError(f"after is {self.after}; choose 0 to {last}: a stage must follow the clustering")
        clustering = TemporalClustering(
            self.clusters, self.rule, self.aggregate, self.lasting, self.floor, self.lose_last
        )
        head = ConsensusHead(net.channels, self.num_classes, self.dropout, self.pool)
        spec = ClipSpec(self.frames, self.sampling, 1, self.size, self.resize, net.mean, net.std)
        return FullVideo(net, clustering, head, spec, self)


@dataclass(frozen=True)
class ClusterAnswer:
    """Results for B videos of up to T frames with g clusters each.

    logits: (B, classes), the mean of step_logits (B, g, classes); in mode "all", g is the number of frames of
    the longest video, and shorter ones are padded with 0. assignment: (B, T), cluster of each frame, -1 after
    the end of a video and for frames that were not read. sizes: (B, g), frames in each cluster; one of size 0
    repeats the last. distances: (B, T - 1) between neighbouring frames, as the rule received them; 0 without
    clustering.
    """

    logits: Tensor
    step_logits: Tensor
    assignment: Tensor
    sizes: Tensor
    distances: Tensor
    features: Tensor  # (B, C'), input of the classifier, averaged over the clusters
    map_shape: torch.Size  # (C, h, w) of a map between the early and the late part
    passes: int = 1  # number of times that the early part ran on each frame


class FullVideo(VideoModel):
    """A backbone whose early part runs on every frame and whose late part runs on clusters of frames."""

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
        """Set the mode; batch norms of an early part that runs in chunks stay in evaluation mode."""
        super().train(mode)
        if self.config.early != "whole":
            for module in self.early_modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def prepare(self, frames: Frames, device: torch.device | str | None = None) -> Any:
        """Keep uint8 frames as they are; they are normalised chunk by chunk in `early`."""
        return list(frames) if isinstance(frames, Tensor) else frames

    def forward(self, clip: Tensor | Sequence[Tensor] | Iterable[Tensor]) -> Tensor:
        """Logits (B, classes).

        clip: (B, 3, T, H, W) float, any T; or a list or tuple of videos as for `cluster_videos`; or another
        iterable, the chunks of one video as for `cluster_chunks`.
        """
        return self._answer_to(clip).logits

    def pieces(self) -> Pieces:
        """The early part, on frames, and the late part with the classifier, on the clusters of a clip.

        UsageError for clusters cut at random, and for a late part on every frame of videos of any length.
        """
        return cluster_pieces(self)

    def output(self, clip: Tensor | Sequence[Tensor] | Iterable[Tensor]) -> ModelOutput:
        """Logits, those of every cluster, and the cluster of each frame. clip: as in `forward`."""
        answer = self._answer_to(clip)
        side: Sequence[int] = (self.spec.size, self.spec.size)  # of chunks, which are cropped to `spec.size`
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
        """Run on videos of different lengths without padding; the result for each is as if it were alone.

        videos: (3, T, H, W) float, normalised, or (T, H, W, 3) uint8, which may be on the CPU and are moved
        to the model's device and normalised chunk by chunk.
        """
        frames = [video if video.dtype == torch.uint8 else video.transpose(0, 1) for video in videos]
        if self._mode == "all":
            return self._answer_all(frames)
        if self._mode == "uniform":
            return self._answer_uniform(frames)
        return self._answer(self._cluster(self._clustering, frames))

    def cluster_chunks(self, chunks: Iterable[Tensor]) -> ClusterAnswer:
        """Run on one video of any length, given as chunks (k, H, W, 3) uint8 of any k.

        Clustering keeps one chunk in memory at a time, and feature maps as `config.early` says; the modes
        "uniform" and "all" need all frames in memory. chunks: iterated over up to three times, so not an
        iterator. ValueError in training with early=whole, whose batch norms need the whole video at once.
        """
        if self.training and self.config.early == "whole":
            raise ValueError("to learn from chunks, the early part must be streamed or frozen (early=...)")
        if self._mode != "cluster":
            return self.cluster_videos([torch.cat(list(chunks))])
        return self._answer(self._stream(self._clustering, chunks, None))

    @property
    def frames_needed(self) -> Callable[[int], list[int]]:
        return partial(_middle_frames_of, self._clusters) if self._mode == "uniform" else every_frame

    @property
    def dial(self) -> CountDial | None:
        """Clusters; nothing to set where the late part reads every frame."""
        if self.config.eval_mode == "all" or self.config.clusters == 1:
            return None
        return CountDial("clusters", self.config.clusters)

    def _macs(self, read: Tensor, side: Sequence[int], answer: ClusterAnswer) -> Tensor:
        """Multiply-adds of each clip, (B,): early part on its frames, late part on its clusters."""
        early = answer.passes * self.part_macs("early", torch.empty(1, 3, *side, device="meta"))
        counts = read.sum(1).tolist()
        maps = counts if self._mode == "all" else [answer.sizes.shape[1]] * len(counts)
        late = {n: self._late_macs(n, answer) for n in {*maps}}
        return torch.tensor([frames * early + late[n] for frames, n in zip(counts, maps, strict=True)])

    def _late_macs(self, maps: int, answer: ClusterAnswer) -> int:
        """Multiply-adds of late part and classifier on this number of maps of one clip."""
        shape, width = answer.map_shape, answer.features.shape[1]
        late = self.part_macs("late", torch.empty(maps, *shape, device="meta"), maps)
        return late + self.part_macs("classify", torch.empty(maps, width, device="meta"))

    def early(self, frames: Tensor) -> Tensor:
        """The early part. frames: (k, 3, H, W) float or (k, H, W, 3) uint8. Returns maps (k, C, h, w)."""
        maps = self.backbone.stem(self._normalised(frames))
        for stage in self.backbone.stages[: self.config.after]:
            maps = stage(maps, maps.shape[0])
        return maps

    def late(self, maps: Tensor, num_frames: int) -> Tensor:
        """The late part. maps: (B*g, C, h, w). Returns features (B*g, C')."""
        for stage in self.backbone.stages[self.config.after :]:
            maps = stage(maps, num_frames)
        return self.head.features(self.backbone.last(maps))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (..., classes) from features (..., C')."""
        return self.head.classify(features)

    def early_parameters(self) -> list[nn.Parameter]:
        """Parameters of the early part."""
        return [weight for module in self.early_modules() for weight in module.parameters(recurse=False)]

    @property
    def _mode(self) -> Mode:
        return self.config.train_mode if self.training else self.config.eval_mode

    @property
    def _clusters(self) -> int:
        return self.config.clusters if self.setting is None else int(self.setting[0])

    @property
    def _clustering(self) -> TemporalClustering:
        """The model's own, or one of as many clusters as are set."""
        return self.clustering if self.setting is None else self.clustering.of(self._clusters)

    @property
    def _in_one_graph(self) -> bool:
        return self.config.early == "whole" and (self.training or torch.is_grad_enabled())

    def early_modules(self) -> Iterator[nn.Module]:
        """All modules of the backbone before the clustering."""
        late_parts = (*self.backbone.stages[self.config.after :], self.backbone.last)
        late = {module for part in late_parts for module in part.modules()}
        return (module for module in self.backbone.modules() if module not in late)

    def _normalised(self, frames: Tensor) -> Tensor:
        if frames.dtype != torch.uint8:
            return frames
        first = self.early_parameters()[0]
        pixels = frames.to(first.device).to(first.dtype)
        scale = 255 * pixels.new_tensor((self.spec.mean, self.spec.std))
        return pixels.sub_(scale[0]).div_(scale[1]).permute(0, 3, 1, 2)

    def _cluster(self, clustering: TemporalClustering, videos: Sequence[Tensor]) -> Clusters:
        """Cluster videos of (T, 3, H, W) float or (T, H, W, 3) uint8."""
        lengths = [len(video) for video in videos]
        if self._in_one_graph:
            return clustering(self.early(torch.cat(list(videos))), lengths)
        return self._stream(clustering, self._chunks(videos), lengths)

    def _stream(
        self, clustering: TemporalClustering, chunks: Iterable[Tensor], lengths: Sequence[int] | None
    ) -> Clusters:
        max_kept = {"kept": float("inf"), "streamed": 0}.get(self.config.early, MAX_KEPT_BYTES)
        return stream_clusters(clustering, self.early, self.early_parameters(), chunks, lengths, max_kept)

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
            found.passes,
        )

    def _answer_uniform(self, videos: Sequence[Tensor]) -> ClusterAnswer:
        """Mode "uniform": run on g frames of each video, each a cluster of its own."""
        places = [middle_frames([len(video)], self._clusters) for video in videos]
        picked = [video[where] for video, where in zip(videos, places, strict=True)]
        answer = self._answer(self._cluster(TemporalClustering(self._clusters, "even"), picked))
        assignment = answer.assignment.new_full((len(videos), max(map(len, videos))), -1)
        for row, clusters, indices in zip(assignment, answer.assignment, places, strict=True):
            row[indices] = clusters[: len(indices)]
        return replace(answer, assignment=assignment)

    def _answer_all(self, videos: Sequence[Tensor]) -> ClusterAnswer:
        """Mode "all": both parts run on every frame; the late part runs per video if lengths differ."""
        lengths = [len(video) for video in videos]
        alike = len(set(lengths)) == 1
        maps = self._every_map(videos)
        parts = [maps] if alike else maps.split(lengths)
        counts = lengths[:1] if alike else lengths
        answers = [self.late(part, count) for part, count in zip(parts, counts, strict=True)]
        features = torch.cat(answers).split(lengths)
        step_logits = [self.classify(x) for x in features]
        steps = nn.utils.rnn.pad_sequence(step_logits, batch_first=True)  # (B, T, classes)
        logits = torch.stack([x.mean(0) for x in step_logits])
        frames = Ragged(lengths, logits.device)
        assignment = torch.where(frames.inside, frames.times, -1)
        sizes = frames.inside.long()
        distances = torch.zeros_like(sizes[:, 1:])
        mean = torch.stack([x.mean(0) for x in features])
        return ClusterAnswer(logits, steps, assignment, sizes, distances, mean, maps.shape[1:])

    def _every_map(self, videos: Sequence[Tensor]) -> Tensor:
        if self._in_one_graph:
            return self.early(torch.cat(list(videos)))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.early != "frozen"):
            return torch.cat([self.early(chunk) for chunk in self._chunks(videos)])


def _middle_frames_of(clusters: int, frames: int) -> list[int]:
    return middle_frames([frames], clusters)
