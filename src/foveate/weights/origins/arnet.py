"""AR-Net: ResNets for three sizes, and a MobileNetV2 with the LSTM policy.

Older files number the layers of MobileNetV2's blocks consecutively.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.origins.base import Origin, flat_mobilenetv2, nested_mobilenetv2
from foveate.weights.rename import Renames


def _renames(keys: Collection[str]) -> Renames:
    nested = any(key.endswith("features.1.conv.0.0.weight") for key in keys)
    mobilenetv2 = nested_mobilenetv2 if nested else flat_mobilenetv2
    return [
        (r"^module\.", ""),
        (r"^lite_fc\.", "policy_head."),
        (r"^linear\.", "policy.actions."),
        (r"^rnn\.", "policy.rnn."),
        (r"^new_fc_list\.(\d+)\.", r"heads.\1."),
        (r"^base_model_list\.(\d+)\.", r"nets.\1."),
        *mobilenetv2(r"lite_backbone\.", "glance."),
    ]


ORIGIN = Origin(
    "arnet",
    renames=_renames,
    signs=(r"^lite_fc\.weight$",),
    fields={"remember_skipped": True},  # how the release was trained
)
