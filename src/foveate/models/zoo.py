"""Every model by name: system_backbone_setting. The dict is written out, so a search for a name ends here."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

from foveate.config import from_dict, nearest, to_dict
from foveate.errors import UsageError
from foveate.models.adafocus import AdaFocusConfig
from foveate.models.adafocus_tsm import AdaFocusTSMConfig
from foveate.models.adafocus_v2 import AdaFocusV2Config
from foveate.models.base import VideoModel
from foveate.models.tsn import TSNConfig

Config = TSNConfig | AdaFocusConfig | AdaFocusV2Config | AdaFocusTSMConfig


@dataclass(frozen=True)
class Entry:
    """A named model: its configuration, where it is described, and what its authors report for it."""

    config: Config
    source: str
    published: str = ""


TSN_PAPER = "Wang et al., ECCV 2016"
TSM_PAPER = "Lin et al., ICCV 2019"
FOCUS_PAPER = "Wang et al., ICCV 2021"
FOCUS_V2_PAPER = "Wang et al., CVPR 2022"
OURS = "small net for images of 48 to 112 pixels"

# Networks of the laboratory: a figure of 4 % of the frame is lost in an average, hence the maximum.
_SMALL: dict[str, Any] = {
    "glance": "resnet10",
    "local": "resnet10",
    "num_classes": 10,
    "frames": 8,
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

MODELS: dict[str, Entry] = {
    "tsn_r18_8": Entry(TSNConfig("resnet18"), TSN_PAPER),
    "tsn_r34_8": Entry(TSNConfig("resnet34"), TSN_PAPER),
    "tsn_r50_8": Entry(TSNConfig("resnet50"), TSN_PAPER, "K400 70.6 (10x3 views)"),
    "tsn_r101_8": Entry(TSNConfig("resnet101"), TSN_PAPER),
    "tsn_mnv2_8": Entry(TSNConfig("mobilenetv2"), TSN_PAPER),
    "tsn_lite0_8": Entry(TSNConfig("efficientnet_lite0"), TSN_PAPER),
    "tsn_lite1_8": Entry(TSNConfig("efficientnet_lite1", size=240), TSN_PAPER),
    "tsn_lite2_8": Entry(TSNConfig("efficientnet_lite2", size=260, resize=292), TSN_PAPER),
    "tsm_r18_8": Entry(TSNConfig("resnet18", shift="both"), TSM_PAPER),
    "tsm_r34_8": Entry(TSNConfig("resnet34", shift="both"), TSM_PAPER),
    "tsm_r50_8": Entry(TSNConfig("resnet50", shift="both"), TSM_PAPER, "K400 74.1 (10x3), SSv1 45.6 (1x1)"),
    "tsm_r50_16": Entry(
        TSNConfig("resnet50", frames=16, shift="both"), TSM_PAPER, "K400 72.6, SSv1 47.2 (1x1)"
    ),
    "tsm_r50_8_tpool": Entry(TSNConfig("resnet50", shift="both", temporal_pool=True), TSM_PAPER),
    "tsm_r50_8_nl": Entry(TSNConfig("resnet50", shift="both", non_local=True), TSM_PAPER, "K400 75.6 (10x3)"),
    "tsm_r50_8_inplace": Entry(TSNConfig("resnet50", shift="both", shift_place="block"), TSM_PAPER),
    "tsm_r50_8_online": Entry(TSNConfig("resnet50", shift="past"), TSM_PAPER),
    "tsm_r101_8": Entry(TSNConfig("resnet101", shift="both"), TSM_PAPER, "SSv1 46.9 (1x1)"),
    "tsm_mnv2_8": Entry(TSNConfig("mobilenetv2", shift="both"), TSM_PAPER, "K400 69.5 (10x3)"),
    "tsm_mnv2_8_online": Entry(TSNConfig("mobilenetv2", num_classes=27, shift="past"), TSM_PAPER),
    "tsm_lite0_8": Entry(TSNConfig("efficientnet_lite0", shift="both"), TSM_PAPER),
    "tsm_lite1_8": Entry(TSNConfig("efficientnet_lite1", size=240, shift="both"), TSM_PAPER),
    "tsm_lite2_8": Entry(TSNConfig("efficientnet_lite2", size=260, resize=292, shift="both"), TSM_PAPER),
    "tsm_lite3_8": Entry(TSNConfig("efficientnet_lite3", size=280, resize=320, shift="both"), TSM_PAPER),
    "tsm_lite4_8": Entry(TSNConfig("efficientnet_lite4", size=300, resize=340, shift="both"), TSM_PAPER),
    "tsn_r10_8": Entry(
        TSNConfig("resnet10", width=0.5, stem="small", size=112, resize=112, pool="max"), OURS
    ),
    "tsm_r10_8": Entry(
        TSNConfig("resnet10", width=0.5, stem="small", size=112, resize=112, pool="max", shift="both"), OURS
    ),
    "adafocus_mnv2_r50_96": Entry(AdaFocusConfig(patch=96), FOCUS_PAPER, "ActivityNet 71.9 mAP"),
    "adafocus_mnv2_r50_128": Entry(AdaFocusConfig(), FOCUS_PAPER, "ActivityNet 75.0 mAP"),
    "adafocus_mnv2_r50_160": Entry(AdaFocusConfig(patch=160), FOCUS_PAPER, "ActivityNet 76.0 mAP"),
    "adafocus_mnv2_r50_192": Entry(AdaFocusConfig(patch=192), FOCUS_PAPER),
    "adafocus_plus_mnv2_r50_128": Entry(
        AdaFocusConfig(skip=True), FOCUS_PAPER, "ActivityNet 74.2 mAP at 19.6 G"
    ),
    "adafocus_lite0_r18_128": Entry(AdaFocusConfig("efficientnet_lite0", "resnet18"), FOCUS_PAPER),
    "adafocus_small": Entry(AdaFocusConfig(**_SMALL, grid=5, policy_width=256, classifier_width=128), OURS),
    "adafocus_v2_mnv2_r50_96": Entry(AdaFocusV2Config(patch=96), FOCUS_V2_PAPER, "ActivityNet 77.4 mAP"),
    "adafocus_v2_mnv2_r50_128": Entry(AdaFocusV2Config(), FOCUS_V2_PAPER, "ActivityNet 79.0 mAP"),
    "adafocus_v2_mnv2_r50_160": Entry(AdaFocusV2Config(patch=160), FOCUS_V2_PAPER, "ActivityNet 79.9 mAP"),
    "adafocus_v2_small": Entry(AdaFocusV2Config(**_SMALL, policy_width=256, classifier_width=256), OURS),
    "adafocus_tsm_144": Entry(AdaFocusTSMConfig(), FOCUS_PAPER, "SSv1 47.0, SSv2 59.7"),
    "adafocus_tsm_160": Entry(AdaFocusTSMConfig(patch=160), FOCUS_PAPER, "SSv1 47.6, SSv2 60.2"),
    "adafocus_tsm_176": Entry(AdaFocusTSMConfig(patch=176), FOCUS_PAPER, "SSv1 48.1, SSv2 60.7"),
}


def list_models(pattern: str = "*") -> list[str]:
    """The known names that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(MODELS, pattern))


def entry(name: str) -> Entry:
    """The table's line of a model; an unknown name raises UsageError with the nearest ones."""
    if name not in MODELS:
        raise UsageError(name, "no model of this name", nearest(name, MODELS))
    return MODELS[name]


def create_model(name: str, num_classes: int | None = None, **fields: Any) -> VideoModel:
    """An untrained model by name. Loads nothing.

    num_classes: None keeps the named model's own. fields: fields of its configuration to change; an unknown
    field or a value that does not fit raises UsageError.
    """
    config = entry(name).config
    if num_classes is not None:
        fields["num_classes"] = num_classes
    changed = from_dict(type(config), to_dict(config) | fields, f"model {name}")
    try:
        model = changed.build()
    except ValueError as error:
        raise UsageError(f"model {name}", str(error)) from error
    model.name = name
    return model
