"""IBM's bLVNet-TAM, and BigLittleNet's image networks, whose names it has with a prefix.

Files of the training script have the prefix `module.`, released ones do not. In models without dropout the
classifier is inside the backbone.
"""

from foveate.weights.origins.base import Origin, aggregation

ORIGIN = Origin(
    "blvnet",
    renames=[
        (r"^module\.", ""),
        (r"^baseline_model\.", ""),
        (r"^(new_fc|fc)\.", "head.linear."),
        (r"^tam\.", "backbone.tam."),
        *aggregation(r"\.tam", ".temporal"),
        (r"^(conv1|bn1|[bl]_conv\d|bn_[bl]\d|bl_init|bn_bl_init)\.", r"backbone.stem.\1."),
        (r"^layer(\d)\.", r"backbone.layer\1."),
    ],
    signs=(r"^baseline_model\.|^b_conv0\.weight$",),
)
