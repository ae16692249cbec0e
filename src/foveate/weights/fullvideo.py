"""The full-video release (L-KID): a ResNet wrapped as TSM does, with `.net` in stages 2 to 4 only."""

from foveate.weights.rename import resnet

TABLE = [
    (r"^module\.", ""),
    (r"\.net\.weight$", ".weight"),  # shifted layers
    (r"^new_fc\.", "head.linear."),
    *resnet(r"base_model\.", "backbone."),
]
