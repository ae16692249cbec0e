"""torchvision's image classifiers, ResNet and MobileNetV2, as the start of a video model."""

from foveate.weights.rename import nested_mobilenetv2, resnet

TABLE = [
    (r"^(fc|classifier\.1)\.", "head.linear."),
    *nested_mobilenetv2("", "backbone."),
    *resnet("", "backbone."),
]
