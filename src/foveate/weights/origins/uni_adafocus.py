"""Uni-AdaFocus for long videos (ActivityNet, FCVID, Mini-Kinetics).

The unused ImageNet classifiers of both networks are ignored. The release pads frames with zeros where a box
touches their edge.
"""

from foveate.weights.origins.base import Origin, flat_mobilenetv2, resnet
from foveate.weights.rename import Renames

POLICIES: Renames = [  # of all three models
    (r"^module\.", ""),
    (r"^spatial_policy\.encoder\.", "spatial_policy.layers."),
    (r"^temporal_policy\.Tconv\.", "temporal_policy.layers."),
    (r"^aux_fc\.", "box_aux."),
]

ORIGIN = Origin(
    "uni_adafocus",
    renames=[
        *POLICIES,
        (r"^(global_CNN\.classifier|local_CNN\.fc)\.", None),
        (r"^global_CNN_fc\.1\.", "glance_aux."),
        (r"^local_CNN_fc\.1\.", "local_aux."),
        (r"^classifier\.global_mlp\.layers\.0\.", "glance_classifier.embed."),
        (r"^classifier\.global_mlp\.layers\.1\.", "glance_classifier.norm."),
        (r"^classifier\.local_mlp\.layers\.0\.", "local_classifier.embed."),
        (r"^classifier\.local_mlp\.layers\.1\.", "local_classifier.norm."),
        (r"^classifier\.global_classifiers\.(\d+)\.1\.", r"glance_classifier.heads.\1."),
        (r"^classifier\.local_classifiers\.(\d+)\.1\.", r"local_classifier.heads.\1."),
        *flat_mobilenetv2(r"global_CNN\.", "glance."),
        *resnet(r"local_CNN\.", "local."),
    ],
    signs=(r"^(spatial_policy\.encoder\.9|temporal_policy\.Tconv|classifier\.local_mlp)\.",),
    fields={"padding": "zeros"},
)
