"""mmaction2 (OpenMMLab): TSN and TSM on ResNet, whose convolutions stand in modules with their norms.

Its frames are resized without antialiasing, by OpenCV. Of its other recognisers the names are known and the
weights not converted.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.errors import ModelFileError
from foveate.weights.origins.base import Origin
from foveate.weights.rename import Renames


def _renames(keys: Collection[str]) -> Renames:
    if not any("backbone.layer1.0.conv1.conv." in key for key in keys):
        hint = "take the weights of another project, such as pyslowfast"
        raise ModelFileError("mmaction2", "of its models only TSN and TSM on ResNet are converted", hint)
    return [
        (r"^module\.", ""),
        (r"^data_preprocessor\.", None),
        (r"^cls_head\.fc_cls\.", "head.linear."),
        (r"\.conv\.net\.", ".conv."),  # shifted layers
        (r"^backbone\.conv1\.conv\.", "backbone.conv1."),
        (r"^backbone\.conv1\.bn\.", "backbone.bn1."),
        (r"\.conv(\d)\.conv\.", r".conv\1."),
        (r"\.conv(\d)\.bn\.", r".bn\1."),
        (r"\.downsample\.conv\.", ".downsample.0."),
        (r"\.downsample\.bn\.", ".downsample.1."),
    ]


ORIGIN = Origin(
    "mmaction2", renames=_renames, signs=(r"^cls_head\.", r"^backbone\."), pixels={"antialias": False}
)
