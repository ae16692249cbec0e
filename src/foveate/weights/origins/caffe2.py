"""Caffe2 files of the PySlowFast zoo: names are converted to those of PySlowFast, and these to ours.

The names follow the release's own renaming rules. `riv` is the running variance itself, not its inverse root,
despite its name. Momentum and learning rate are ignored.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.origins.base import Origin
from foveate.weights.origins.pyslowfast import PIXELS, pathway_renames
from foveate.weights.rename import Renames

_NORM = [(r"_bn_s$", "_bn.weight"), (r"_bn_b$", "_bn.bias"), (r"_bn_rm$", "_bn.running_mean")]

TO_PYSLOWFAST: Renames = [
    (r"_momentum$|^lr$|^model_iter$", None),
    *_NORM,
    (r"_bn_riv$", "_bn.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
    (r"^pred\.", "head.projection."),
    # lateral connections, before the pathways, which have the same prefixes
    (r"^t_pool1_subsample_bn\.", "s1_fuse.bn."),
    (r"^t_pool1_subsample\.", "s1_fuse.conv_f2s."),
    (r"^t_res(\d)_\d+_branch2c_bn_subsample_bn\.", r"s\1_fuse.bn."),
    (r"^t_res(\d)_\d+_branch2c_bn_subsample\.", r"s\1_fuse.conv_f2s."),
    (r"^nonlocal_conv(\d)_(\d+)_bn\.", r"s\1.pathway0_nonlocal\2.bn."),
    (r"^nonlocal_conv(\d)_(\d+)_(theta|phi|g|out)\.", r"s\1.pathway0_nonlocal\2.conv_\3."),
    (r"^conv1\.", "s1.pathway0_stem.conv."),
    (r"^t_conv1\.", "s1.pathway1_stem.conv."),
    (r"^res_conv1_bn\.", "s1.pathway0_stem.bn."),
    (r"^t_res_conv1_bn\.", "s1.pathway1_stem.bn."),
    (r"^res(\d)_(\d+)_", r"s\1.pathway0_res\2."),
    (r"^t_res(\d)_(\d+)_", r"s\1.pathway1_res\2."),
    (r"\.branch2([abc])(_bn)?\.", r".branch2.\1\2."),
]


def _renames(keys: Collection[str]) -> Renames:
    """Blobs of a Fast pathway begin with `t_`."""
    return [*TO_PYSLOWFAST, *pathway_renames("slow" if "t_conv1_w" in keys else "net")]


ORIGIN = Origin("caffe2", renames=_renames, signs=(r"^conv1_w$",), pixels=PIXELS)
