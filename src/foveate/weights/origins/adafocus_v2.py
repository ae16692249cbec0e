"""AdaFocusV2 (ActivityNet), whose glance is a MobileNetV2 or a ResNet.

The unused ImageNet classifiers of both networks are ignored.
"""

from foveate.weights.origins.base import Origin, flat_mobilenetv2, resnet

ORIGIN = Origin(
    "adafocus_v2",
    renames=[
        (r"^module\.", ""),
        (r"^(global_CNN\.(classifier|fc)|local_CNN\.fc)\.", None),
        (r"^global_CNN_fc\.1\.", "glance_head."),
        (r"^local_CNN_fc\.1\.", "local_head."),
        (r"^policy_stn\.fc\.0\.", "policy.position."),
        (r"^policy_stn\.", "policy."),
        (r"^classifier\.mlp\.layers\.0\.", "classifier.embed."),
        (r"^classifier\.mlp\.layers\.1\.", "classifier.norm."),
        (r"^classifier\.classifiers\.(\d+)\.1\.", r"classifier.heads.\1."),
        *flat_mobilenetv2(r"global_CNN\.", "glance."),
        *resnet(r"global_CNN\.", "glance."),
        *resnet(r"local_CNN\.", "local."),
    ],
    signs=(r"^global_CNN\.",),
    fields={"shrink": "corners"},
)
