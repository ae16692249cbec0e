"""IBM's action-recognition-pytorch: TSN on a plain ResNet, in torchvision's names."""

from foveate.weights.rename import resnet

TABLE = [(r"^module\.", ""), (r"^fc\.", "head.linear."), *resnet("", "backbone.")]
