"""Our own names, as scripts save them that call torch.save on the state dict of one of our models."""

from foveate.weights.origins.base import Origin

ORIGIN = Origin(
    "foveate",
    renames=[(r"^module\.", "")],
    signs=(
        r"^(head\.linear|local_head|policy_head|classifier\.\w+)\.weight$",
        r"^(backbone|net|slow|local|nets)\.",
    ),
)
