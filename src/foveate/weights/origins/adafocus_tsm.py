"""AdaFocus-TSM: a flat MobileNetV2 and a ResNet whose submodules are numbered.

The policy is stored under its own key of the checkpoint, outside the state dict; its keys get the prefix
`policy.`.
"""

from foveate.weights.origins.base import Origin, flat_mobilenetv2, resnet

ORIGIN = Origin(
    "adafocus_tsm",
    renames=[
        (r"^module\.", ""),
        (r"\.net\.weight$", ".weight"),  # shifted layers
        (r"^policy\.state_encoder\.", "policy.encoder."),
        (r"^policy\.(actor|critic)\.0\.", r"policy.\1."),
        (r"^classifier\.", "local_head."),
        (r"^glancer\.net\.classifier\.", "glance_head."),
        (r"^focuser\.net\.base_model\.0\.", "focuser.conv1."),
        (r"^focuser\.net\.base_model\.1\.", "focuser.bn1."),
        (r"^focuser\.net\.base_model\.4\.", "focuser.layer1."),
        (r"^focuser\.net\.base_model\.5\.", "focuser.layer2."),
        (r"^focuser\.net\.base_model\.6\.", "focuser.layer3."),
        (r"^focuser\.net\.base_model\.7\.", "focuser.layer4."),
        *flat_mobilenetv2(r"glancer\.net\.", "glance."),
        *resnet(r"focuser\.", "local."),
    ],
    signs=(r"^focuser\.net\.base_model\.",),
    parts=("policy",),
)
