"""IBM's action-recognition-pytorch: TSN on a plain ResNet, in torchvision's names."""

from foveate.weights.torchvision import RESNET

TABLE = [(r"^module\.", ""), *RESNET]
