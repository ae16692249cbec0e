"""The full-video release (L-KID): a ResNet wrapped as TSM does, with `.net` in stages 2 to 4 only."""

from foveate.weights.origins.base import Origin, resnet

ORIGIN = Origin(
    "fullvideo",
    renames=[
        (r"^module\.", ""),
        (r"\.net\.weight$", ".weight"),  # shifted layers
        (r"^new_fc\.", "head.linear."),
        *resnet(r"base_model\.", "backbone."),
    ],
    signs=(r"^base_model\.layer1\.0\.conv1\.weight$", r"^base_model\.layer2\.0\.conv1\.net\.weight$"),
)
