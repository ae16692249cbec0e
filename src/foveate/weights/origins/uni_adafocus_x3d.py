"""Uni-AdaFocus on X3D (Kinetics-400): two networks as PySlowFast names them, each with a second head.

No checkpoint of it is published; the names are those of the model that the release builds.
"""

from foveate.weights.origins.base import Origin
from foveate.weights.origins.pyslowfast import BLOCK, PIXELS, x3d
from foveate.weights.origins.uni_adafocus import POLICIES

ORIGIN = Origin(
    "uni_adafocus_x3d",
    renames=[
        *POLICIES,
        (r"^aux_head\.0\.", "box_aux."),
        (r"^global_CNN_head\.", "glance_aux."),
        (r"^local_CNN_head\.", "local_aux."),
        *x3d(r"global_CNN\.", "glance.", "glance_head."),
        *x3d(r"local_CNN\.", "local.", "local_head."),
        *BLOCK,
    ],
    signs=(r"^temporal_policy\.Tconv\.", r"^global_CNN\.s1\.pathway0_stem\."),
    fields={"padding": "zeros", "map_boxes": "points", "shortcut_norm": True},
    pixels=PIXELS,
)
