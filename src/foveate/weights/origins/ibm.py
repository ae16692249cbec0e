"""IBM's action-recognition-pytorch: TSN, TAM and I3D on a plain ResNet with torchvision's names."""

from foveate.weights.origins.base import Origin, aggregation, resnet

ORIGIN = Origin(
    "ibm",
    renames=[
        (r"^module\.", ""),
        (r"\.(prev|curr|next)_se\.fc1\.", r".\1."),
        (r"\.(blending_layers\.\d+)\.fc1\.", r".\1."),
        *aggregation(r"\.tam", ".temporal"),
        (r"^fc\.", "head.linear."),
        *resnet("", "backbone."),
    ],
    signs=(r"^module\.conv1\.weight$|\.tam\.",),
)
