"""Dials: what of a trained model can be set to make it answer for less, without other weights.

A setting is a tuple of numbers, which a model file can hold. A model says which dial it has
(`VideoModel.dial`) and reads the setting in its forward pass (`VideoModel.setting`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from foveate.models.adafocus.early_exit import NEVER

Setting = tuple[float, ...]
Look = tuple[float, int]
"""How a local network looks: its width, a share of its channels, and the side of its patches, pixels."""
HIGHEST_PRICE = 20.0  # as the policy of AR-Net clamps probabilities at 1e-8, whose logarithm is -18.4


class Dial(Protocol):
    """What can be set."""

    @property
    def name(self) -> str:
        """What it is, in one word."""
        ...

    @property
    def full(self) -> Setting:
        """The setting of full cost."""
        ...

    @property
    def group(self) -> int:
        """Frames between two places where reading may stop; 0 for a dial that does not stop reading."""
        ...

    @property
    def whole(self) -> tuple[Setting, ...]:
        """Settings that read to the end; their last values are thresholds, which are solved from the answers
        on the way. None for a dial without thresholds."""
        ...

    def check(self, setting: Setting) -> None:
        """ValueError for a setting that the model cannot run at."""
        ...

    def settings(self, points: int) -> list[Setting]:
        """At most so many to measure first, cheapest first, the full one last; none if they are solved."""
        ...

    def middle(self, low: Setting, high: Setting) -> Setting | None:
        """A setting between two, to measure where their costs lie far apart; None for a dial without."""
        ...

    def between(self, low: Setting, high: Setting, part: float) -> Setting:
        """The setting at a part, in [0, 1), of the way from one to another, which costs more; of settings
        with nothing in between the first."""
        ...

    def steady(self, setting: Setting, share: float) -> Setting:
        """A setting of about this share, if possible for any clip alike, so that it can be timed."""
        ...


@dataclass(frozen=True)
class CountDial:
    """A number of things that are processed, from `step` to `most` in multiples of `step`."""

    name: str
    most: int
    step: int = 1
    group: ClassVar[int] = 0
    whole: ClassVar[tuple[Setting, ...]] = ()

    @property
    def full(self) -> Setting:
        return (self.most,)

    def check(self, setting: Setting) -> None:
        if len(setting) != 1 or setting[0] not in range(self.step, self.most + 1, self.step):
            raise ValueError(
                f"{self.name} cannot be {[*setting][:4]}; {self.step} to {self.most} are possible"
            )

    def settings(self, points: int) -> list[Setting]:
        counts = range(self.step, self.most + 1, self.step)
        last, kept = len(counts) - 1, min(points, len(counts))
        return [(counts[round(i * last / max(1, kept - 1))],) for i in range(kept)]

    def middle(self, low: Setting, high: Setting) -> Setting | None:
        return None

    def between(self, low: Setting, high: Setting, part: float) -> Setting:
        """The first: a compiled part is made for each number, so no others are made up."""
        return low

    def steady(self, setting: Setting, share: float) -> Setting:
        return setting


@dataclass(frozen=True)
class ExitDial:
    """Thresholds of early exit, one for each of `steps` frames, solved on videos (early_exit.py)."""

    steps: int
    group: int = 1
    name: ClassVar[str] = "exits"

    @property
    def full(self) -> Setting:
        return (*(NEVER,) * (self.steps - 1), 0.0)

    @property
    def whole(self) -> tuple[Setting, ...]:
        return (self.full,)

    def check(self, setting: Setting) -> None:
        fits = len(setting) == self.steps and all(0 <= threshold <= NEVER for threshold in setting)
        if not fits or setting[-1] != 0:
            raise ValueError(f"{len(setting)} thresholds of exits do not fit {self.steps} frames")

    def settings(self, points: int) -> list[Setting]:
        return []

    def middle(self, low: Setting, high: Setting) -> Setting | None:
        return None

    def between(self, low: Setting, high: Setting, part: float) -> Setting:
        return tuple(min(NEVER, (1 - part) * a + part * b) for a, b in zip(low, high, strict=True))

    def steady(self, setting: Setting, share: float) -> Setting:
        """Every clip stops after the same number of frames."""
        read = max(1, round(share * self.steps))
        return (*(NEVER,) * (read - 1), *(0.0,) * (self.steps - read + 1))


@dataclass(frozen=True)
class LookDial:
    """A width of the local network, a side of its patches, and then thresholds as in `ExitDial`.

    looks: the pairs that the model has, the full one last. steps: answers of the model.
    """

    looks: tuple[Look, ...]
    steps: int
    group: int = 1
    name: ClassVar[str] = "looks"

    @property
    def exits(self) -> ExitDial:
        """What the thresholds alone set."""
        return ExitDial(self.steps, self.group)

    @property
    def full(self) -> Setting:
        return self.whole[-1]

    @property
    def whole(self) -> tuple[Setting, ...]:
        return tuple((*look, *self.exits.full) for look in self.looks)

    def check(self, setting: Setting) -> None:
        if setting[:2] not in self.looks:
            known = ", ".join(f"{width:g} at {side}" for width, side in self.looks)
            raise ValueError(f"a width and a patch cannot be {[*setting[:2]]}; {known} pixels are possible")
        self.exits.check(setting[2:])

    def settings(self, points: int) -> list[Setting]:
        return []

    def middle(self, low: Setting, high: Setting) -> Setting | None:
        return None

    def between(self, low: Setting, high: Setting, part: float) -> Setting:
        """Thresholds between those of one width and patch; of two different ones the first."""
        if low[:2] != high[:2]:
            return low
        return (*low[:2], *self.exits.between(low[2:], high[2:], part))

    def steady(self, setting: Setting, share: float) -> Setting:
        """Every clip is looked at as often: in all frames, or in half of them where it might stop earlier."""
        stops = min(setting[2:-1], default=NEVER) < NEVER
        return (*setting[:2], *self.exits.steady(setting[2:], 0.5 if stops else 1.0))


@dataclass(frozen=True)
class PriceDial:
    """A price on multiply-adds, in log-probability for the dearest action of a policy (arnet.py)."""

    name: ClassVar[str] = "price"
    group: ClassVar[int] = 0
    whole: ClassVar[tuple[Setting, ...]] = ()

    @property
    def full(self) -> Setting:
        return (0.0,)

    def check(self, setting: Setting) -> None:
        if len(setting) != 1 or not 0 <= setting[0] <= HIGHEST_PRICE:
            raise ValueError(f"a price cannot be {[*setting][:4]}; 0 to {HIGHEST_PRICE:g} are possible")

    def settings(self, points: int) -> list[Setting]:
        return [(HIGHEST_PRICE,), self.full]

    def middle(self, low: Setting, high: Setting) -> Setting | None:
        return self.between(low, high, 0.5)

    def between(self, low: Setting, high: Setting, part: float) -> Setting:
        return ((1 - part) * low[0] + part * high[0],)

    def steady(self, setting: Setting, share: float) -> Setting:
        return setting
