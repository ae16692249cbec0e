"""The TSM release (mit-han-lab): ResNets in torchvision's names and a flat MobileNetV2, wrapped by surgery.

Shifted layers carry `.net`, temporally pooled stages too, non-local blocks wrap the block they follow. The
streaming file is bare: no wrapper's prefix, and its classifier is called so.
"""

from foveate.weights.rename import mobilenet_blocks

FLAT_MOBILENETV2 = [
    (r"^features\.0\.0\.", "backbone.stem.conv."),
    (r"^features\.0\.1\.", "backbone.stem.norm."),
    (r"^features\.18\.0\.", "backbone.last.conv."),
    (r"^features\.18\.1\.", "backbone.last.norm."),
    # The first block has no expansion.
    (r"^features\.1\.conv\.0\.", "backbone.blocks.0.depthwise.conv."),
    (r"^features\.1\.conv\.1\.", "backbone.blocks.0.depthwise.norm."),
    (r"^features\.1\.conv\.3\.", "backbone.blocks.0.project.conv."),
    (r"^features\.1\.conv\.4\.", "backbone.blocks.0.project.norm."),
    *mobilenet_blocks(
        r"features\.",
        "backbone.blocks.",
        [
            (r"conv\.0\.", "expand.conv."),
            (r"conv\.1\.", "expand.norm."),
            (r"conv\.3\.", "depthwise.conv."),
            (r"conv\.4\.", "depthwise.norm."),
            (r"conv\.6\.", "project.conv."),
            (r"conv\.7\.", "project.norm."),
        ],
    ),
]

NONLOCAL = [
    (r"\.block\.", "."),
    (r"\.nl\.theta\.", ".after.query."),
    (r"\.nl\.phi\.0\.", ".after.key."),
    (r"\.nl\.g\.0\.", ".after.value."),
    (r"\.nl\.W\.0\.", ".after.out."),
    (r"\.nl\.W\.1\.", ".after.norm."),
]

TABLE = [
    (r"^module\.", ""),
    (r"\.net\.", "."),
    (r"^base_model\.(fc|classifier)\.", "head.linear."),  # some files lack the new_fc of the others
    (r"^(new_fc|classifier)\.", "head.linear."),
    (r"^base_model\.", ""),
    *NONLOCAL,
    *FLAT_MOBILENETV2,
    (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."),
]
