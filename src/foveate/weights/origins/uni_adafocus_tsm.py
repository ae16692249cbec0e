"""Uni-AdaFocus on TSM (Something-Something, Jester); `new_fc` answers, `new_new_fc` teaches the networks."""

from foveate.weights.origins.base import Origin, flat_mobilenetv2, resnet
from foveate.weights.origins.uni_adafocus import POLICIES

NETWORKS = [
    (r"\.net\.weight$", ".weight"),  # shifted layers
    (r"^global_CNN\.new_fc\.", "glance_head."),
    (r"^global_CNN\.new_new_fc\.", "glance_aux."),
    (r"^local_CNN\.new_fc\.", "local_head."),
    (r"^local_CNN\.new_new_fc\.", "local_aux."),
    *flat_mobilenetv2(r"global_CNN\.base_model\.", "glance."),
    *resnet(r"local_CNN\.base_model\.", "local."),
]

ORIGIN = Origin(
    "uni_adafocus_tsm",
    renames=[
        *POLICIES,
        *NETWORKS,
    ],
    signs=(r"^temporal_policy\.Tconv\.", r"^global_CNN\.base_model\."),
    fields={"padding": "zeros"},
)
