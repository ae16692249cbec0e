"""All models by name, system_backbone_setting, in one literal dict, so that a search for a name ends here."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from foveate.config import from_dict, nearest, to_dict
from foveate.errors import UsageError
from foveate.models.adafocus.tsm import AdaFocusTSMConfig
from foveate.models.adafocus.uni_any import UniAnyConfig
from foveate.models.adafocus.uni_clip import UniTSMConfig, UniX3DConfig
from foveate.models.adafocus.uni_long import UniAdaFocusConfig
from foveate.models.adafocus.v1 import AdaFocusConfig
from foveate.models.adafocus.v2 import AdaFocusV2Config
from foveate.models.adafocus.v2_tsm import AdaFocusV2TSMConfig
from foveate.models.arnet import ARNetConfig
from foveate.models.base import VideoModel
from foveate.models.blvnet import BLVNetConfig
from foveate.models.fullvideo import FullVideoConfig
from foveate.models.i3d_ibm import IBMI3DConfig
from foveate.models.pathway import PathwayConfig
from foveate.models.slowfast import SlowFastConfig
from foveate.models.tsn import TSNConfig
from foveate.models.x3d import X3DConfig

Config = (
    TSNConfig
    | BLVNetConfig
    | ARNetConfig
    | IBMI3DConfig
    | AdaFocusConfig
    | AdaFocusV2Config
    | AdaFocusV2TSMConfig
    | AdaFocusTSMConfig
    | UniAdaFocusConfig
    | UniAnyConfig
    | UniTSMConfig
    | UniX3DConfig
    | SlowFastConfig
    | PathwayConfig
    | X3DConfig
    | FullVideoConfig
)


@dataclass(frozen=True)
class ModelSpec:
    """A named model.

    source: the paper. published: the accuracy that its authors report, in %. recipe: how it is trained, a
    name in train/recipes/.
    """

    config: Config
    source: str
    published: str = ""
    recipe: str = "classifier"


TSN_PAPER = "Wang et al., ECCV 2016"
TSM_PAPER = "Lin et al., ICCV 2019"
BLVNET_PAPER = "Fan et al., NeurIPS 2019"
BLRESNET_PAPER = "Chen et al., ICLR 2019"
IBM_STUDY = "Chen et al., CVPR 2021"
ARNET_PAPER = "Meng et al., ECCV 2020"
FOCUS_PAPER = "Wang et al., ICCV 2021"
FOCUS_V2_PAPER = "Wang et al., CVPR 2022"
UNI_PAPER = "Wang et al., TPAMI 2024"
SLOWFAST_PAPER = "Feichtenhofer et al., ICCV 2019"
NONLOCAL_PAPER = "Wang et al., CVPR 2018"
X3D_PAPER = "Feichtenhofer, CVPR 2020"
FULL_VIDEO_PAPER = "Liu et al., CVPR 2021"
MAY_BE_ZERO = frozenset({"after", "aux_dropout", "dropout", "exits", "skip_threshold", "spread"})
"""Configuration fields for which 0 is a valid number."""
OURS = "our small net, for made videos and tests"
OUR_OWN = "ours, of no paper"

# for synthetic videos; pool is "max" because an average loses a figure that covers 4 % of the frame
_SMALL_NETS: dict[str, Any] = {
    "glance": "resnet10",
    "local": "resnet10",
    "num_classes": 10,
    "size": 160,
    "resize": 160,
    "glance_size": 24,
    "glance_strides": (1, 2, 1, 1),
    "patch": 64,
    "pool": "max",
    "glance_width": 0.125,
    "local_width": 0.25,
    "glance_stem": "small",
    "local_stem": "small",
}
_SMALL = _SMALL_NETS | {"frames": 8}
_SMALL_UNI: dict[str, Any] = {
    "candidates": 24,
    "glance_frames": 8,
    "local_frames": 4,
    "temporal_width": 32,
    "spatial_width": 32,
    "classifier_width": 256,
}

MODELS: dict[str, ModelSpec] = {
    "tsn_r18_8": ModelSpec(TSNConfig("resnet18"), TSN_PAPER),
    "tsn_r34_8": ModelSpec(TSNConfig("resnet34"), TSN_PAPER),
    "tsn_r50_8": ModelSpec(TSNConfig("resnet50"), TSN_PAPER, "K400 70.6 (10x3 views)"),
    "tsn_r101_8": ModelSpec(TSNConfig("resnet101"), TSN_PAPER),
    "tsn_mnv2_8": ModelSpec(TSNConfig("mobilenetv2"), TSN_PAPER),
    "tsn_lite0_8": ModelSpec(TSNConfig("efficientnet_lite0"), TSN_PAPER),
    "tsn_lite1_8": ModelSpec(TSNConfig("efficientnet_lite1", size=240), TSN_PAPER),
    "tsn_lite2_8": ModelSpec(TSNConfig("efficientnet_lite2", size=260, resize=292), TSN_PAPER),
    "tsm_r18_8": ModelSpec(TSNConfig("resnet18", temporal="shift"), TSM_PAPER),
    "tsm_r34_8": ModelSpec(TSNConfig("resnet34", temporal="shift"), TSM_PAPER),
    "tsm_r50_8": ModelSpec(
        TSNConfig("resnet50", temporal="shift"), TSM_PAPER, "K400 74.1 (10x3), SSv1 45.6 (1x1)"
    ),
    "tsm_r50_16": ModelSpec(
        TSNConfig("resnet50", frames=16, temporal="shift"), TSM_PAPER, "K400 72.6, SSv1 47.2 (1x1)"
    ),
    "tsm_r50_8_tpool": ModelSpec(TSNConfig("resnet50", temporal="shift", temporal_pool=True), TSM_PAPER),
    "tsm_r50_8_nl": ModelSpec(
        TSNConfig("resnet50", temporal="shift", non_local=True), TSM_PAPER, "K400 75.6 (10x3)"
    ),
    "tsm_r50_8_inplace": ModelSpec(TSNConfig("resnet50", temporal="shift", shift_place="block"), TSM_PAPER),
    "tsm_r50_8_online": ModelSpec(TSNConfig("resnet50", temporal="past"), TSM_PAPER),
    "tsm_r101_8": ModelSpec(TSNConfig("resnet101", temporal="shift"), TSM_PAPER, "SSv1 46.9 (1x1)"),
    "tsm_mnv2_8": ModelSpec(TSNConfig("mobilenetv2", temporal="shift"), TSM_PAPER, "K400 69.5 (10x3)"),
    "tsm_mnv2_8_online": ModelSpec(TSNConfig("mobilenetv2", num_classes=27, temporal="past"), TSM_PAPER),
    "tsm_lite0_8": ModelSpec(TSNConfig("efficientnet_lite0", temporal="shift"), TSM_PAPER),
    "tsm_lite1_8": ModelSpec(TSNConfig("efficientnet_lite1", size=240, temporal="shift"), TSM_PAPER),
    "tsm_lite2_8": ModelSpec(
        TSNConfig("efficientnet_lite2", size=260, resize=292, temporal="shift"), TSM_PAPER
    ),
    "tsm_lite3_8": ModelSpec(
        TSNConfig("efficientnet_lite3", size=280, resize=320, temporal="shift"), TSM_PAPER
    ),
    "tsm_lite4_8": ModelSpec(
        TSNConfig("efficientnet_lite4", size=300, resize=340, temporal="shift"), TSM_PAPER
    ),
    "tsn_r10_8": ModelSpec(
        TSNConfig("resnet10", width=0.5, stem="small", size=112, resize=112, pool="max"), OURS
    ),
    "tsm_r10_8": ModelSpec(
        TSNConfig("resnet10", width=0.5, stem="small", size=112, resize=112, pool="max", temporal="shift"),
        OURS,
    ),
    "tam_r18_8": ModelSpec(TSNConfig("resnet18", temporal="aggregation"), IBM_STUDY),
    "tam_r34_8": ModelSpec(TSNConfig("resnet34", temporal="aggregation"), IBM_STUDY),
    "tam_r50_8": ModelSpec(TSNConfig("resnet50", temporal="aggregation"), IBM_STUDY),
    "tam_r50_32": ModelSpec(
        TSNConfig("resnet50", frames=32, temporal="aggregation"),
        IBM_STUDY,
        "K400 76.2 (10x3), SSv2 63.8 (2x3)",
    ),
    "tam_r101_8": ModelSpec(TSNConfig("resnet101", temporal="aggregation"), IBM_STUDY),
    "tam_r101_32": ModelSpec(
        TSNConfig("resnet101", frames=32, temporal="aggregation"),
        IBM_STUDY,
        "K400 77.6 (10x3), SSv2 65.3 (2x3)",
    ),
    "tam_r18_16_tpool": ModelSpec(
        TSNConfig("resnet18", frames=16, temporal="aggregation", temporal_pool=True, pool_after=(1, 2, 3)),
        IBM_STUDY,
    ),
    "tam_r50_8_tpool": ModelSpec(
        TSNConfig("resnet50", temporal="aggregation", temporal_pool=True, pool_after=(1, 2, 3)), IBM_STUDY
    ),
    "tsn_r50_8_tpool": ModelSpec(TSNConfig("resnet50", temporal_pool=True, pool_after=(1, 2, 3)), IBM_STUDY),
    "tam_mnv2_8": ModelSpec(TSNConfig("mobilenetv2", temporal="aggregation"), BLVNET_PAPER),
    "tam_lite0_8": ModelSpec(TSNConfig("efficientnet_lite0", temporal="aggregation"), BLVNET_PAPER),
    "tam_r10_8": ModelSpec(
        TSNConfig(
            "resnet10", width=0.5, stem="small", size=112, resize=112, pool="max", temporal="aggregation"
        ),
        OURS,
    ),
    "i3d_ibm_r18_8": ModelSpec(IBMI3DConfig(18), IBM_STUDY),
    "i3d_ibm_r50_8": ModelSpec(IBMI3DConfig(), IBM_STUDY),
    "i3d_ibm_r50_32": ModelSpec(IBMI3DConfig(frames=32), IBM_STUDY, "K400 76.6 (10x3), SSv2 62.8 (2x3)"),
    "blresnet50": ModelSpec(
        TSNConfig("blresnet50", num_classes=1000, frames=1), BLRESNET_PAPER, "ImageNet top-1 error 22.41"
    ),
    "blresnet101": ModelSpec(
        TSNConfig("blresnet101", num_classes=1000, frames=1), BLRESNET_PAPER, "ImageNet top-1 error 21.34"
    ),
    "blvnet_r50_8x2": ModelSpec(BLVNetConfig(temporal="none"), BLVNET_PAPER),
    "blvnet_tam_r26_8x2": ModelSpec(BLVNetConfig(26), BLVNET_PAPER),
    "blvnet_tam_r50_4x2": ModelSpec(BLVNetConfig(frames=8), BLVNET_PAPER),
    "blvnet_tam_r50_8x2": ModelSpec(BLVNetConfig(), BLVNET_PAPER, "SSv1 46.4, SSv2 59.1 (1x1)"),
    "blvnet_tam_r50_16x2": ModelSpec(BLVNetConfig(frames=32), BLVNET_PAPER, "SSv1 48.4, SSv2 61.7 (1x1)"),
    "blvnet_tam_r101_8x2": ModelSpec(BLVNetConfig(101), BLVNET_PAPER, "SSv1 47.8, SSv2 60.2 (1x1)"),
    "blvnet_tam_r101_16x2": ModelSpec(
        BLVNetConfig(101, frames=32), BLVNET_PAPER, "SSv1 49.6, SSv2 61.9 (1x1)"
    ),
    "blvnet_tam_r101_24x2": ModelSpec(
        BLVNetConfig(101, frames=48), BLVNET_PAPER, "SSv1 52.2, SSv2 64.0 (1x1)"
    ),
    "blvnet_tam_r101_32x2": ModelSpec(
        BLVNetConfig(101, frames=64), BLVNET_PAPER, "SSv1 53.1, SSv2 65.2 (1x1)"
    ),
    "blvnet_small": ModelSpec(
        BLVNetConfig(26, num_classes=10, width=0.25, size=112, resize=112, pool="max"), OURS
    ),
    "arnet_r50_16": ModelSpec(
        ARNetConfig(), ARNET_PAPER, "ActivityNet 73.8 mAP at 33.5 G, FCVID 81.3 at 35.1 G", recipe="arnet"
    ),
    "arnet_small": ModelSpec(
        ARNetConfig(
            nets=("resnet10", "resnet10", "resnet10"),
            sizes=(112, 84, 56),
            widths=(0.5, 0.25, 0.25),
            glance="resnet10",
            glance_width=0.25,
            glance_size=42,
            num_classes=10,
            frames=8,
            resize=112,
            policy_width=64,
            shrink="average",
            pool="max",
            stem="small",
        ),
        OURS,
        recipe="arnet",
    ),
    "adafocus_mnv2_r50_96": ModelSpec(
        AdaFocusConfig(patch=96), FOCUS_PAPER, "ActivityNet 71.9 mAP", recipe="adafocus"
    ),
    "adafocus_mnv2_r50_128": ModelSpec(
        AdaFocusConfig(), FOCUS_PAPER, "ActivityNet 75.0 mAP", recipe="adafocus"
    ),
    "adafocus_mnv2_r50_160": ModelSpec(
        AdaFocusConfig(patch=160), FOCUS_PAPER, "ActivityNet 76.0 mAP", recipe="adafocus"
    ),
    "adafocus_mnv2_r50_192": ModelSpec(AdaFocusConfig(patch=192), FOCUS_PAPER, recipe="adafocus"),
    "adafocus_plus_mnv2_r50_128": ModelSpec(
        AdaFocusConfig(skip=True), FOCUS_PAPER, "ActivityNet 74.2 mAP at 19.6 G", recipe="adafocus"
    ),
    "adafocus_tam_mnv2_r50_128": ModelSpec(
        AdaFocusConfig(glance_temporal="aggregation"), FOCUS_PAPER, recipe="adafocus"
    ),
    "adafocus_lite0_r18_128": ModelSpec(
        AdaFocusConfig("efficientnet_lite0", "resnet18"), FOCUS_PAPER, recipe="adafocus"
    ),
    "adafocus_lite0_lite0_128": ModelSpec(
        AdaFocusConfig(
            "efficientnet_lite0",
            "efficientnet_lite0",
            frames=8,
            size=384,
            resize=384,
            glance_size=176,
            policy="attention",
            classifier_width=256,
        ),
        OURS,
        recipe="attention",
    ),
    "adafocus_small": ModelSpec(
        AdaFocusConfig(**_SMALL, grid=5, policy_width=256, classifier_width=128), OURS, recipe="adafocus"
    ),
    "adafocus_v2_mnv2_r50_96": ModelSpec(
        AdaFocusV2Config(patch=96), FOCUS_V2_PAPER, "ActivityNet 77.4 mAP", recipe="adafocus_v2"
    ),
    "adafocus_v2_mnv2_r50_128": ModelSpec(
        AdaFocusV2Config(), FOCUS_V2_PAPER, "ActivityNet 79.0 mAP", recipe="adafocus_v2"
    ),
    "adafocus_v2_mnv2_r50_160": ModelSpec(
        AdaFocusV2Config(patch=160), FOCUS_V2_PAPER, "ActivityNet 79.9 mAP", recipe="adafocus_v2"
    ),
    "adafocus_v2_small": ModelSpec(
        AdaFocusV2Config(**_SMALL, policy_width=256, classifier_width=256), OURS, recipe="adafocus_v2"
    ),
    "adafocus_v2_r50_r50_96": ModelSpec(
        AdaFocusV2Config("resnet50", glance_size=96, shrink="corners", patch=96),
        FOCUS_V2_PAPER,
        "ActivityNet 77.5 mAP",
        recipe="adafocus_v2",
    ),
    "adafocus_v2_r50_r50_128": ModelSpec(
        AdaFocusV2Config("resnet50", glance_size=96, shrink="corners"),
        FOCUS_V2_PAPER,
        "ActivityNet 78.9 mAP, FCVID 84.5 mAP, Mini-Kinetics 74.0",
        recipe="adafocus_v2",
    ),
    "adafocus_v2_r50_r50_160": ModelSpec(
        AdaFocusV2Config("resnet50", glance_size=96, shrink="corners", patch=160),
        FOCUS_V2_PAPER,
        "ActivityNet 80.2 mAP",
        recipe="adafocus_v2",
    ),
    "adafocus_v2_tsm_128": ModelSpec(
        AdaFocusV2TSMConfig(patch=128),
        FOCUS_V2_PAPER,
        "SSv1 47.0, SSv2 59.6, Jester 96.6",
        recipe="adafocus_v2_tsm",
    ),
    "adafocus_v2_tsm_144": ModelSpec(
        AdaFocusV2TSMConfig(), FOCUS_V2_PAPER, "SSv1 48.2, SSv2 60.5", recipe="adafocus_v2_tsm"
    ),
    "adafocus_v2_tsm_160": ModelSpec(
        AdaFocusV2TSMConfig(patch=160), FOCUS_V2_PAPER, "SSv1 48.6, SSv2 60.8", recipe="adafocus_v2_tsm"
    ),
    "adafocus_v2_tsm_176": ModelSpec(
        AdaFocusV2TSMConfig(patch=176),
        FOCUS_V2_PAPER,
        "SSv1 49.6, SSv2 61.3, Jester 96.9",
        recipe="adafocus_v2_tsm",
    ),
    "adafocus_tsm_144": ModelSpec(
        AdaFocusTSMConfig(), FOCUS_PAPER, "SSv1 47.0, SSv2 59.7", recipe="adafocus_tsm"
    ),
    "adafocus_tsm_160": ModelSpec(
        AdaFocusTSMConfig(patch=160), FOCUS_PAPER, "SSv1 47.6, SSv2 60.2", recipe="adafocus_tsm"
    ),
    "adafocus_tsm_176": ModelSpec(
        AdaFocusTSMConfig(patch=176), FOCUS_PAPER, "SSv1 48.1, SSv2 60.7", recipe="adafocus_tsm"
    ),
    "adafocus_tsm_144_grid": ModelSpec(AdaFocusTSMConfig(grid=7), FOCUS_PAPER, recipe="adafocus_tsm"),
    "uni_adafocus_mnv2_r50_96": ModelSpec(
        UniAdaFocusConfig(patch=96),
        UNI_PAPER,
        "ActivityNet 79.3 mAP (read off a plot)",
        recipe="uni_adafocus",
    ),
    "uni_adafocus_mnv2_r50_128": ModelSpec(
        UniAdaFocusConfig(),
        UNI_PAPER,
        "ActivityNet 80.7 mAP, FCVID 86.4 mAP, Mini-Kinetics 75.8",
        recipe="uni_adafocus",
    ),
    "uni_adafocus_mnv2_r50_160": ModelSpec(
        UniAdaFocusConfig(patch=160),
        UNI_PAPER,
        "ActivityNet 81.5 mAP (read off a plot)",
        recipe="uni_adafocus",
    ),
    "uni_adafocus_tsm_96": ModelSpec(
        UniTSMConfig(), UNI_PAPER, "SSv1 47.5, SSv2 60.8", recipe="uni_adafocus_tsm"
    ),
    "uni_adafocus_tsm_96_12": ModelSpec(
        UniTSMConfig(candidates=36, local_frames=12),
        UNI_PAPER,
        "SSv1 49.5, SSv2 62.6",
        recipe="uni_adafocus_tsm",
    ),
    "uni_adafocus_tsm_128": ModelSpec(
        UniTSMConfig(candidates=36, local_frames=12, patch=128),
        UNI_PAPER,
        "SSv1 50.5, SSv2 63.2, Jester 97.1",
        recipe="uni_adafocus_tsm",
    ),
    "uni_adafocus_tsm_128_16": ModelSpec(
        UniTSMConfig(candidates=48, local_frames=16, patch=128),
        UNI_PAPER,
        "SSv1 51.5, SSv2 64.2",
        recipe="uni_adafocus_tsm",
    ),
    "uni_adafocus_x3d_128": ModelSpec(
        UniX3DConfig(), UNI_PAPER, "K400 75.3 (1x1), 76.6 (1x3)", recipe="uni_adafocus_x3d"
    ),
    "uni_adafocus_small": ModelSpec(
        UniAdaFocusConfig(**_SMALL_NETS, **_SMALL_UNI),
        OURS,
        recipe="uni_adafocus",
    ),
    "uni_adafocus_any_mnv2_r50_128": ModelSpec(UniAnyConfig(), OUR_OWN, recipe="uni_adafocus_any"),
    "uni_adafocus_any_small": ModelSpec(
        UniAnyConfig(**_SMALL_NETS, **_SMALL_UNI, small_patches=(32, 48)), OURS, recipe="uni_adafocus_any"
    ),
    "slowfast_r18_4x16": ModelSpec(SlowFastConfig(18, alpha=8, lateral_kernel=5), SLOWFAST_PAPER),
    "slowfast_r50_4x16": ModelSpec(
        SlowFastConfig(alpha=8, lateral_kernel=5), SLOWFAST_PAPER, "K400 75.6 / 92.0 (10x3 at 256)"
    ),
    "slowfast_r50_8x8": ModelSpec(SlowFastConfig(), SLOWFAST_PAPER, "K400 77.0 / 92.6 (10x3 at 256)"),
    "slowfast_r50_16x8": ModelSpec(
        SlowFastConfig(frames=64), SLOWFAST_PAPER, "SSv2 63.0 / 88.5 (1x1), Charades 38.9 mAP (10x3 at 256)"
    ),
    "slowfast_nln_r50_4x16": ModelSpec(
        SlowFastConfig(alpha=8, lateral_kernel=5, non_local="dot"), SLOWFAST_PAPER
    ),
    "slowfast_nln_r50_8x8": ModelSpec(SlowFastConfig(lateral_kernel=5, non_local="dot"), SLOWFAST_PAPER),
    "slowfast_r101_8x8": ModelSpec(
        SlowFastConfig(101, lateral_kernel=5), SLOWFAST_PAPER, "K400 77.9 / 93.3 (10x3 at 256, PyTorchVideo)"
    ),
    "slowfast_r101_8x8_50_50": ModelSpec(
        SlowFastConfig(101, lateral_kernel=5, slow_res4=6, fast_res4=6),
        SLOWFAST_PAPER,
        "K400 77.9 / 93.2 (10x3 at 256, paper)",
    ),
    "slowfast_r101_8x8_50_101": ModelSpec(
        SlowFastConfig(101, lateral_kernel=5, slow_res4=6, fast_res4=23), SLOWFAST_PAPER
    ),
    "slowfast_r101_16x8": ModelSpec(
        SlowFastConfig(101, frames=64, lateral_kernel=5, slow_res4=6, fast_res4=6),
        SLOWFAST_PAPER,
        "K400 78.7 / 93.6 (10x3 at 256, PyTorchVideo)",
    ),
    "slowfast_nln_r101_16x8": ModelSpec(
        SlowFastConfig(101, frames=64, lateral_kernel=5, slow_res4=6, fast_res4=6, non_local="dot"),
        SLOWFAST_PAPER,
        "K400 79.8 / 93.9 (10x3 at 256, paper)",
    ),
    "slowfast_small": ModelSpec(
        SlowFastConfig(
            10, 10, 16, alpha=4, beta=0.25, lateral_kernel=5, width=0.25, stem="small", size=112, resize=112
        ),
        OURS,
    ),
    "slow_r50_4x16": ModelSpec(
        PathwayConfig(frames=4, stride=16), SLOWFAST_PAPER, "K400 72.7 / 90.3 (10x3 at 256)"
    ),
    "slow_r50_8x8": ModelSpec(PathwayConfig(), SLOWFAST_PAPER, "K400 74.8 / 91.6 (10x3 at 256)"),
    "slow_nln_r50_4x16": ModelSpec(PathwayConfig(frames=4, stride=16, non_local="dot"), SLOWFAST_PAPER),
    "slow_nln_r50_8x8": ModelSpec(PathwayConfig(non_local="dot"), SLOWFAST_PAPER),
    "slow_tam_r50_8x8": ModelSpec(PathwayConfig(temporal="aggregation"), BLVNET_PAPER),
    "slow_small": ModelSpec(
        PathwayConfig("slow", 10, 10, 4, 8, width=0.25, stem="small", size=112, resize=112), OURS
    ),
    "fast_r50_32x2": ModelSpec(
        PathwayConfig("fast", frames=32, stride=2, width=0.125),
        SLOWFAST_PAPER,
        "K400 51.7 / 78.5 (10x3 at 256, paper)",
    ),
    "fast_small": ModelSpec(
        PathwayConfig("fast", 10, 10, 16, 2, width=0.0625, stem="small", size=112, resize=112), OURS
    ),
    "c2d_r50_8x8": ModelSpec(
        PathwayConfig("c2d", pool_time=True), NONLOCAL_PAPER, "K400 71.5 / 89.7 (10x3 at 256, PyTorchVideo)"
    ),
    "c2d_r50_8x8_nopool": ModelSpec(PathwayConfig("c2d"), NONLOCAL_PAPER, "K400 67.2 / 87.8 (10x3 at 256)"),
    "c2d_nln_r50_8x8": ModelSpec(PathwayConfig("c2d", pool_time=True, non_local="softmax"), NONLOCAL_PAPER),
    "i3d_r50_8x8": ModelSpec(
        PathwayConfig("i3d", pool_time=True), NONLOCAL_PAPER, "K400 73.5 / 90.8 (10x3 at 256)"
    ),
    "i3d_r50_8x8_nopool": ModelSpec(PathwayConfig("i3d"), NONLOCAL_PAPER),
    "i3d_nln_r50_8x8": ModelSpec(
        PathwayConfig("i3d", pool_time=True, non_local="softmax"),
        NONLOCAL_PAPER,
        "K400 74.0 / 91.1 (10x3 at 256)",
    ),
    "i3d_r101_8x8": ModelSpec(PathwayConfig("i3d", 101, pool_time=True), NONLOCAL_PAPER),
    "x3d_xs": ModelSpec(X3DConfig(frames=4, stride=12), X3D_PAPER, "K400 69.5 (10x3), 68.7 (10x1)"),
    "x3d_s": ModelSpec(X3DConfig(), X3D_PAPER, "K400 73.5 (10x3), 73.1 (10x1)"),
    "x3d_m": ModelSpec(
        X3DConfig(frames=16, stride=5, size=224, resize=256, window=7),
        X3D_PAPER,
        "K400 76.2 (10x3), 75.1 (10x1)",
    ),
    "x3d_l": ModelSpec(
        X3DConfig(depth=5.0, frames=16, stride=5, size=312, resize=356, window=10),
        X3D_PAPER,
        "K400 77.5 (10x3), 76.9 (10x1)",
    ),
    "fullvideo_r18_32to8": ModelSpec(FullVideoConfig(), FULL_VIDEO_PAPER, "Move4MNIST 94.1"),
    "fullvideo_r18_32to16": ModelSpec(FullVideoConfig(clusters=16, rule="slope"), FULL_VIDEO_PAPER),
    "fullvideo_tam_r18_32to8": ModelSpec(FullVideoConfig(temporal="aggregation"), FULL_VIDEO_PAPER),
    "fullvideo_r50_18to8": ModelSpec(FullVideoConfig("resnet50", frames=18), FULL_VIDEO_PAPER),
    "fullvideo_r50_32to8": ModelSpec(
        FullVideoConfig("resnet50"), FULL_VIDEO_PAPER, "SSv1 49.5, SSv2 62.7 (all frames)"
    ),
    "fullvideo_mnv2_32to8": ModelSpec(FullVideoConfig("mobilenetv2", after=2), FULL_VIDEO_PAPER),
    "fullvideo_lite0_32to8": ModelSpec(FullVideoConfig("efficientnet_lite0", after=2), FULL_VIDEO_PAPER),
    "fullvideo_small": ModelSpec(
        FullVideoConfig("resnet10", num_classes=10, width=0.125, size=64, resize=64), OURS
    ),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell-style pattern, or begin with a plain text, sorted."""
    glob = pattern if any(char in pattern for char in "*?[") else f"{pattern}*"
    return sorted(fnmatch.filter(MODELS, glob))


def model_spec(name: str) -> ModelSpec:
    """The `ModelSpec` of a name; UsageError with similar names for an unknown one."""
    if name not in MODELS:
        raise UsageError(name, "no model of this name", nearest(name, MODELS, "`foveate models` lists them"))
    return MODELS[name]


def create_model(name: str, num_classes: int | None = None, **fields: Any) -> VideoModel:
    """Create an untrained model by name; `load_model` loads trained ones.

    num_classes: None keeps that of the named configuration. fields: fields of the configuration to change.
    UsageError for an unknown name or field or an invalid value.
    """
    config = model_spec(name).config
    if "modality" in fields and not hasattr(config, "modality"):
        hint = "TSN, TSM, TAM and bLVNet read optical flow as well"
        raise UsageError(f"model {name}", "reads RGB alone: it has no modality", hint)
    if num_classes is not None:
        fields["num_classes"] = num_classes
    changed = from_dict(type(config), to_dict(config) | fields, f"model {name}")
    _check_positive(changed, f"model {name}")
    try:
        model = changed.build()
    except ValueError as error:
        raise UsageError(f"model {name}", str(error)) from error
    model.name = name
    return model


def create_outline(name: str, most_tensors: float = math.inf, **fields: Any) -> VideoModel:
    """`create_model` without values: all tensors lie on PyTorch's meta device, which has shapes alone.

    UsageError for a model that makes more than most_tensors, before they are made.
    """
    with torch.device("meta"), _Uninitialised(most_tensors):
        return create_model(name, **fields)


MAKERS = (torch.empty, torch.zeros, torch.ones)
RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_)  # some of torch.nn.init are seen only by these


class _Uninitialised(TorchFunctionMode):
    """Leaves out random numbers, which on the meta device take seconds, as they load PyTorch's compiler."""

    def __init__(self, most_tensors: float) -> None:
        super().__init__()
        self.left = most_tensors

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in RANDOM or getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        self.left -= func in MAKERS
        if self.left < 0:
            raise ValueError("it has more tensors than are wanted")
        return func(*args, **kwargs)


def _check_positive(config: Any, subject: str) -> None:
    """UsageError for a negative number in a configuration, or a 0 in a field that must be positive."""
    for name, value in to_dict(config).items():
        numbers = [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int | float)]
        least = min((number for number in numbers if not isinstance(number, bool)), default=1)
        if least < 0 or (least == 0 and name not in MAY_BE_ZERO):
            raise UsageError(subject, f"{name} is {value}", "it must be above 0")
