"""Where clusters beat even segments: videos whose motion is a burst of 8 frames out of 128.

Noise and flashes then show what breaks each rule of clustering, and what mends it (`floor`, `lasting`:
additions of this library). On plain grey, even segments come nearest to the limit that counting sets them: a
burst tells its direction only if a border falls into it.
"""

from __future__ import annotations

from experiments.fullvideo import COLUMNS, RULES, TRAIN, UNIFORM, Fields, Setting, measure, plain
from experiments.fullvideo_data import Burst
from experiments.runner import Experiment, Numbers

BURST: Fields = {"size": 32, "resize": 32, "frames": 128, "stem": "small", "after": 0}
FLOOR: Fields = {"rule": "cumulative", "floor": True}
LASTING: Fields = {"rule": "slope", "lasting": True}


def rules(*names: str) -> dict[str, Fields]:
    return {name: RULES[name] for name in names}


SETTINGS: dict[str, Setting] = {
    "quiet": Setting(Burst(), 6, BURST, {"uniform": UNIFORM, **RULES}),
    "noise": Setting(Burst(noise=2), 6, BURST, rules("slope", "cumulative") | {"floor": FLOOR}),
    "flashes": Setting(Burst(flashes=4), 6, BURST, rules("slope") | {"lasting": LASTING}),
    "plain": Setting(Burst(textured=False), 6, BURST, rules("even", "slope", "cumulative")),
    "plain_noise": Setting(
        Burst(textured=False, noise=2), 6, BURST, rules("even", "slope", "cumulative") | {"floor": FLOOR}
    ),
}


def run(variant: str, seed: int) -> Numbers:
    """One cell, such as "quiet-slope"."""
    setting, _, method = variant.partition("-")
    return measure(SETTINGS[setting], method, seed, EXPERIMENT.scratch(variant, seed))


FOUND = """What was found. Where motion is short, both rules of clustering name it and whatever does not look
stays near chance (25 %): even segments could reach 70 %, for so often a border falls into a burst, but in
this time they do not get there. Noise of 2 in 255 on every pixel takes the cumulative rule to chance, for 120
quiet frames outweigh a burst; a floor under the distances brings it back. Four flashes take all cuts from the
slope; lasting distances bring most of it back. On plain grey, where one seed was run, even segments come
nearer to their limit and stay far below clusters.

Names: `quiet`, a texture and a still digit, of which nothing but the burst moves; `noise`, `flashes`, the
same with these; `plain`, grey instead of the texture.

Seconds were taken in turns with uniform frames while another training ran: read the quotient."""

EXPERIMENT = Experiment(
    name="bursts",
    claim="In bursts it is where the cuts fall that counts: clusters keep the 8 frames of 128 in which "
    "something happens apart, even segments do not. Noise breaks the cumulative rule and flashes the slope; "
    "distances above a floor (`floor`) and lasting ones (`lasting`) mend them.",
    variants=tuple(f"{name}-{method}" for name, setting in SETTINGS.items() for method in setting.variants),
    columns=COLUMNS,
    run=run,
    settings={
        "settings": {name: plain(setting) for name, setting in SETTINGS.items()},
        "train": TRAIN.identity(),
    },
    after=FOUND,
)
