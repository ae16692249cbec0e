"""AdaFocusV2 on TSM (Something-Something, Jester); `new_fc` answers, `new_new_fc` teaches the networks."""

from foveate.weights.origins.base import Origin
from foveate.weights.origins.uni_adafocus_tsm import NETWORKS

ORIGIN = Origin(
    "adafocus_v2_tsm",
    renames=[(r"^module\.", ""), (r"^policy_stn\.", "policy.encoder."), *NETWORKS],
    signs=(r"^policy_stn\.10\.", r"^global_CNN\.base_model\."),
)
