"""torchvision's image classifiers: ResNet and the nested MobileNetV2, as the start of a video model."""

from foveate.weights.rename import mobilenet_blocks

RESNET = [(r"^fc\.", "head.linear."), (r"^(conv1|bn1|layer\d)\.", r"backbone.\1.")]

MOBILENETV2 = [
    (r"^features\.0\.0\.", "backbone.stem.conv."),
    (r"^features\.0\.1\.", "backbone.stem.norm."),
    (r"^features\.18\.0\.", "backbone.last.conv."),
    (r"^features\.18\.1\.", "backbone.last.norm."),
    (r"^classifier\.1\.", "head.linear."),
    # The first block has no expansion: its entries stand one place earlier.
    (r"^features\.1\.conv\.0\.0\.", "backbone.blocks.0.depthwise.conv."),
    (r"^features\.1\.conv\.0\.1\.", "backbone.blocks.0.depthwise.norm."),
    (r"^features\.1\.conv\.1\.", "backbone.blocks.0.project.conv."),
    (r"^features\.1\.conv\.2\.", "backbone.blocks.0.project.norm."),
    *mobilenet_blocks(
        r"features\.",
        "backbone.blocks.",
        [
            (r"conv\.0\.0\.", "expand.conv."),
            (r"conv\.0\.1\.", "expand.norm."),
            (r"conv\.1\.0\.", "depthwise.conv."),
            (r"conv\.1\.1\.", "depthwise.norm."),
            (r"conv\.2\.", "project.conv."),
            (r"conv\.3\.", "project.norm."),
        ],
    ),
]

TABLE = [*MOBILENETV2, *RESNET]
