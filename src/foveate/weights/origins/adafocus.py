"""AdaFocus (ActivityNet): MobileNetV2 glance, ResNet-50 local network, two copies of the policy.

The copy that samples actions (`policy_old`) equals the trained one in all released files and is ignored.
Files of training stage 1 have no policy.
"""

from foveate.weights.origins.base import Origin, nested_mobilenetv2, resnet

ORIGIN = Origin(
    "adafocus",
    renames=[
        (r"^module\.", ""),
        (r"^focuser\.policy\.policy_old\.", None),
        (r"^focuser\.policy\.policy\.", "policy."),
        (r"^policy\.state_encoder\.", "policy.encoder."),
        (r"^policy\.(actor|critic)\.0\.", r"policy.\1."),
        (r"^glancer\.net\.classifier\.1\.", "glance_head."),
        (r"^focuser\.net\.fc\.", "local_head."),
        (r"^classifier\.fc\.", "classifier.linear."),
        *nested_mobilenetv2(r"glancer\.net\.", "glance."),
        *resnet(r"focuser\.net\.", "local."),
    ],
    signs=(r"^(glancer|focuser)\.",),
)
