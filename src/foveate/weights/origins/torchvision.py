"""torchvision's image classifiers, ResNet and MobileNetV2, to initialise video models."""

from foveate.weights.origins.base import Origin, nested_mobilenetv2, resnet

ORIGIN = Origin(
    "torchvision",
    renames=[
        (r"^(fc|classifier\.1)\.", "head.linear."),
        *nested_mobilenetv2("", "backbone."),
        *resnet("", "backbone."),
    ],
    signs=(r"^(conv1|features\.1\.conv\.0\.0)\.weight$",),
    classes="imagenet1000",
)
