"""AdaFocus, ActivityNet model: a MobileNetV2 glance, a ResNet-50 patch network, two copies of the policy.

The copy that acts (`policy_old`) equals the one that learns in every saved file; ours is read from the
latter. A file of stage 1 holds no policy.
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
