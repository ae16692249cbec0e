"""PySlowFast (facebookresearch/SlowFast): SlowFast, Slow-only, C2D and I3D; pathway 0 is the Slow one.

The PyTorchVideo zoo holds some of its files too, with every name below `model.`.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.rename import Table

_UNIT = {"a": "1", "b": "2", "c": "3"}


def table(keys: Collection[str]) -> Table:
    """The renames for a state dict with those keys: one pathway is `net`, two are `slow` and `fast`."""
    first = "slow" if any("pathway1" in key for key in keys) else "net"
    return [(r"^(module|model)\.", ""), *rules(first)]


def rules(first: str) -> Table:
    """first: our name of pathway 0."""
    stem = [(rf"^s1\.pathway{i}_stem\.", f"{ours}.stem.") for i, ours in enumerate((first, "fast"))]
    blocks = [
        (rf"^s(\d)\.pathway{i}_res(\d+)\.", rf"{ours}.res\1.\2.") for i, ours in enumerate((first, "fast"))
    ]
    units = [
        rule
        for theirs, ours in _UNIT.items()
        for rule in (
            (rf"\.branch2\.{theirs}\.", f".conv{ours}."),
            (rf"\.branch2\.{theirs}_bn\.", f".bn{ours}."),
        )
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
        (r"\.branch1\.", ".downsample.0."),
        (r"\.branch1_bn\.", ".downsample.1."),
        *units,
        (r"^head\.projection\.", "head.linear."),
    ]
