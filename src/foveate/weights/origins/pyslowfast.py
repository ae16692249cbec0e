"""PySlowFast (facebookresearch/SlowFast): SlowFast, Slow-only, C2D, I3D and X3D; pathway 0 is the Slow one.

The PyTorchVideo zoo has some of its files too, with the prefix `model.`. X3D is recognised by the spatial
convolution of its stem, `conv_xy`, and has a norm on every shortcut.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.origins.base import Origin
from foveate.weights.rename import Renames

PIXELS = {"antialias": False, "crop_up": True}  # of this code base, PyTorchVideo and the Caffe2 release

BLOCK: Renames = [
    (r"\.branch1\.", ".downsample.0."),
    (r"\.branch1_bn\.", ".downsample.1."),
    (r"\.branch2\.se\.fc1\.", ".squeeze.squeeze."),
    (r"\.branch2\.se\.fc2\.", ".squeeze.excite."),
    *((rf"\.branch2\.{theirs}\.", f".conv{ours}.") for ours, theirs in enumerate("abc", 1)),
    *((rf"\.branch2\.{theirs}_bn\.", f".bn{ours}.") for ours, theirs in enumerate("abc", 1)),
    (r"^head\.projection\.", "head.linear."),
]


def x3d(theirs: str, ours: str, head: str) -> Renames:
    """Renames for an X3D network but for its blocks. theirs: pattern of the prefix; ours, head: of ours."""
    return [
        (rf"^{theirs}s1\.pathway0_stem\.conv_xy\.", f"{ours}stem.0."),
        (rf"^{theirs}s1\.pathway0_stem\.conv\.", f"{ours}stem.1."),
        (rf"^{theirs}s1\.pathway0_stem\.bn\.", f"{ours}stem.2."),
        (rf"^{theirs}s(\d)\.pathway0_res(\d+)\.", rf"{ours}res\1.\2."),
        (rf"^{theirs}head\.conv_5\.", f"{ours}last.0."),
        (rf"^{theirs}head\.conv_5_bn\.", f"{ours}last.1."),
        (rf"^{theirs}head\.lin_5\.", f"{head}embed.0."),
        (rf"^{theirs}head\.projection\.", f"{head}linear."),
    ]


def _renames(keys: Collection[str]) -> Renames:
    """One pathway is our `net`, two are `slow` and `fast`."""
    prefix = (r"^(module|model)\.", "")
    if any("pathway0_stem.conv_xy" in key for key in keys):
        return [prefix, *x3d("", "backbone.", "head."), *BLOCK]
    return [prefix, *pathway_renames("slow" if any("pathway1" in key for key in keys) else "net")]


def pathway_renames(first: str) -> Renames:
    """Renames for all models but X3D. first: our name of pathway 0."""
    stem = [(rf"^s1\.pathway{i}_stem\.", f"{ours}.stem.") for i, ours in enumerate((first, "fast"))]
    blocks = [
        (rf"^s(\d)\.pathway{i}_res(\d+)\.", rf"{ours}.res\1.\2.") for i, ours in enumerate((first, "fast"))
    ]
    return [
        *stem,
        *((rf"^s{i + 1}_fuse\.conv_f2s\.", f"laterals.{i}.transform.conv.") for i in range(4)),
        *((rf"^s{i + 1}_fuse\.bn\.", f"laterals.{i}.transform.bn.") for i in range(4)),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.bn\.", rf"{first}.res\1.\2.after.norm."),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.conv_out\.", rf"{first}.res\1.\2.after.out."),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.conv_theta\.", rf"{first}.res\1.\2.after.query."),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.conv_phi\.", rf"{first}.res\1.\2.after.key."),
        (r"^s(\d)\.pathway0_nonlocal(\d+)\.conv_g\.", rf"{first}.res\1.\2.after.value."),
        *blocks,
        *BLOCK,
    ]


ORIGIN = Origin(
    "pyslowfast",
    renames=_renames,
    signs=(r"^s1\.pathway0_stem\.conv\.weight$",),
    fields={"shortcut_norm": True},  # X3D's
    pixels=PIXELS,
)
