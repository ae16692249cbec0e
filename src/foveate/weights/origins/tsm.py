"""The TSM release (mit-han-lab): ResNets with torchvision's names and a flat MobileNetV2, with wrappers.

Shifted layers and temporally pooled stages are wrapped as `.net`, blocks before a non-local block as
`.block`. The file of the online model has no prefix, and its classifier is named `classifier`.
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
