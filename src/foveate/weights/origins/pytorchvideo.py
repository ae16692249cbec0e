"""PyTorchVideo's hub models, whose stages are numbered together with temporal pools (C2D, I3D) and heads.

The number of a stage depends on whether block 2 has weights. X3D is recognised by the two convolutions of its
stem, whose names the release swapped: `conv_t` is the spatial one.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.origins.base import Origin
from foveate.weights.origins.pyslowfast import PIXELS
from foveate.weights.rename import Renames

_BLOCK = [
    (r"\.branch1_conv\.", ".downsample.0."),
    (r"\.branch1_norm\.", ".downsample.1."),
    (r"\.branch2\.conv_a\.", ".conv1."),
    (r"\.branch2\.norm_a\.", ".bn1."),
    (r"\.branch2\.conv_b\.", ".conv2."),
    (r"\.branch2\.norm_b\.0\.", ".bn2."),
    (r"\.branch2\.norm_b\.1\.block\.0\.", ".squeeze.squeeze."),
    (r"\.branch2\.norm_b\.1\.block\.2\.", ".squeeze.excite."),
    (r"\.branch2\.norm_b\.", ".bn2."),
    (r"\.branch2\.conv_c\.", ".conv3."),
    (r"\.branch2\.norm_c\.", ".bn3."),
    (r"^blocks\.\d+\.proj\.", "head.linear."),
]


def _renames(keys: Collection[str]) -> Renames:
    keys = [key.removeprefix("model.") for key in keys]
    prefix = [(r"^(module|model)\.", "")]
    if any(".multipathway_blocks." in key for key in keys):
        return [*prefix, *_two_pathways(), *_BLOCK]
    if "blocks.0.conv.conv_t.weight" in keys:
        return [*prefix, *_x3d(), *_BLOCK]
    pooled = not any(key.startswith("blocks.2.") for key in keys)
    return [*prefix, *_one_pathway(pooled), *_BLOCK]


def _two_pathways() -> Renames:
    rules = [
        (r"^blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.", r"laterals.\1.transform.conv."),
        (r"^blocks\.(\d)\.multipathway_fusion\.norm\.", r"laterals.\1.transform.bn."),
    ]
    for number, ours in enumerate(("slow", "fast")):
        theirs = rf"\.multipathway_blocks\.{number}\."
        rules += [
            (rf"^blocks\.0{theirs}conv\.", f"{ours}.stem.conv."),
            (rf"^blocks\.0{theirs}norm\.", f"{ours}.stem.bn."),
            *((rf"^blocks\.{i}{theirs}res_blocks\.", f"{ours}.res{i + 1}.") for i in range(1, 5)),
        ]
    return rules


def _one_pathway(pooled: bool) -> Renames:
    """pooled: block 2 is a pool, and res3 to res5 have numbers higher by one."""
    places = (1, 3, 4, 5) if pooled else (1, 2, 3, 4)
    return [
        (r"^blocks\.0\.conv\.", "net.stem.conv."),
        (r"^blocks\.0\.norm\.", "net.stem.bn."),
        *((rf"^blocks\.{place}\.res_blocks\.", f"net.res{i}.") for i, place in enumerate(places, start=2)),
    ]


def _x3d() -> Renames:
    return [
        (r"^blocks\.0\.conv\.conv_t\.", "backbone.stem.0."),
        (r"^blocks\.0\.conv\.conv_xy\.", "backbone.stem.1."),
        (r"^blocks\.0\.norm\.", "backbone.stem.2."),
        *((rf"^blocks\.{i}\.res_blocks\.", f"backbone.res{i + 1}.") for i in range(1, 5)),
        (r"^blocks\.5\.pool\.pre_conv\.", "backbone.last.0."),
        (r"^blocks\.5\.pool\.pre_norm\.", "backbone.last.1."),
        (r"^blocks\.5\.pool\.post_conv\.", "head.embed.0."),
    ]


ORIGIN = Origin(
    "pytorchvideo",
    renames=_renames,
    signs=(r"^blocks\.0\.(conv\.|multipathway)",),
    pixels=PIXELS,
)
