"""AR-Net: ResNets for three sizes, and a MobileNetV2 with an LSTM that chooses among them.

Older files number the layers of MobileNetV2's blocks through.
"""

from __future__ import annotations

from collections.abc import Collection

from foveate.weights.rename import Table, flat_mobilenetv2, nested_mobilenetv2

NEEDS = {"remember_skipped": True}  # trained with a memory of frames that were skipped


def table(keys: Collection[str]) -> Table:
    """The names of a file with these keys."""
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
