"""The TSM release (mit-han-lab): ResNets in torchvision's names and a flat MobileNetV2, wrapped by surgery.

Shifted layers carry `.net`, temporally pooled stages too, non-local blocks wrap the block they follow. The
streaming file is bare: no wrapper's prefix, and its classifier is called so.
"""

from foveate.weights.origins.base import Origin, flat_mobilenetv2, resnet

NONLOCAL = [
    (r"\.block\.", "."),
    (r"\.nl\.theta\.", ".after.query."),
    (r"\.nl\.phi\.0\.", ".after.key."),
    (r"\.nl\.g\.0\.", ".after.value."),
    (r"\.nl\.W\.0\.", ".after.out."),
    (r"\.nl\.W\.1\.", ".after.norm."),
]

ORIGIN = Origin(
    "tsm",
    renames=[
        (r"^module\.", ""),
        (r"\.net\.", "."),
        (r"^base_model\.(fc|classifier)\.", "head.linear."),  # some files lack the new_fc of the others
        (r"^(new_fc|classifier)\.", "head.linear."),
        (r"^base_model\.", ""),
        *NONLOCAL,
        *flat_mobilenetv2("", "backbone."),
        *resnet("", "backbone."),
    ],
    signs=(r"^(base_model|new_fc)\.|^features\.1\.conv\.0\.weight$",),
)
