"""One budget for models whose cost can be chosen after training: how it is written, and what it sets.

A model that can answer for less has a dial (`VideoModel.dial`, models/dials.py). What each setting of it
costs and how often it is right is measured once on videos (train/budget.py) and kept in the model file as a
`Curve`. A budget is then a place on the curve; between two measured points the setting is interpolated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from foveate.errors import UsageError
from foveate.models.dials import Dial, Setting

MOST_POINTS = 64  # of a curve
MOST_VALUES = 4096  # of a setting, as many as a clip can have frames
ROUNDED = 0.99  # of the least cost: a table shows four digits of it, which may be rounded down
FORMS = "write a share of the full cost such as 0.3, multiply-adds a clip such as 9G, or a time such as 40ms"

Unit = Literal["", "G", "ms"]


@dataclass(frozen=True)
class Budget:
    """What a clip may cost: a share of the model's full cost, 1e9 multiply-adds (G), or milliseconds (ms)."""

    amount: float
    unit: Unit = ""

    def __str__(self) -> str:
        return f"{self.amount:.4g}{self.unit}"


def parse_budget(value: str | float | Budget) -> Budget:
    """`0.3`, `"0.3"`, `"9G"` or `"40ms"` as a budget; UsageError for anything else, or a share above 1."""
    if isinstance(value, Budget):
        return value
    found = re.fullmatch(r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?|[-+]?nan|[-+]?inf)\s*(G|ms)?", str(value).strip())
    subject = f"--budget {str(value)[:40]}"
    try:
        amount = float(found[1]) if found else None
    except ValueError:
        amount = None
    if found is None or amount is None:
        raise UsageError(subject, "is no budget", FORMS)
    if not 0 < amount < math.inf:
        raise UsageError(subject, "is no positive number", FORMS)
    unit: Unit = found[2] or ""  # type: ignore[assignment]
    if not unit and amount > 1:
        raise UsageError(subject, "is more than the full cost, 1", FORMS)
    return Budget(amount, unit)


@dataclass(frozen=True)
class Point:
    """A setting of the dial and what it came to on the videos of the curve, on average over them."""

    share: float  # of the full cost, in (0, 1]
    gmacs: float  # 1e9 multiply-adds of a clip
    accuracy: float  # in [0, 1]
    setting: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """What a model costs and how often it is right by the setting of its dial, cheapest first.

    ValueError for points that no measurement gives, as a file may hold anything.
    """

    dial: str  # its name
    measure: str  # what `accuracy` is: top1 or mAP
    videos: int  # that it was measured on
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.points) <= MOST_POINTS:
            raise ValueError(f"a curve of {len(self.points)} points; 2 to {MOST_POINTS} are possible")
        for point in self.points:
            finite = all(map(math.isfinite, (point.share, point.gmacs, point.accuracy, *point.setting)))
            if not finite or not 0 < point.share <= 1 or point.gmacs <= 0 or not 0 <= point.accuracy <= 1:
                raise ValueError("a point of the curve lies outside of what is possible")
            if not 1 <= len(point.setting) <= MOST_VALUES:
                raise ValueError(f"a setting of {len(point.setting)} values; 1 to {MOST_VALUES} are possible")
        for before, after in pairwise(self.points):
            if not (before.share < after.share and before.gmacs < after.gmacs):
                raise ValueError("the costs along the curve do not rise")

    @property
    def full_gmacs(self) -> float:
        """Cost of the model without a budget."""
        return self.points[-1].gmacs / self.points[-1].share

    def check(self, dial: Dial | None) -> None:
        """ValueError unless every setting is one of this dial."""
        if dial is None or dial.name != self.dial:
            raise ValueError(f"the curve is of {self.dial[:40]!r}, which the model cannot set")
        for point in self.points:
            dial.check(point.setting)

    def share_of(self, budget: Budget, milliseconds: Sequence[float] = ()) -> float:
        """The share of the full cost that fits a budget.

        milliseconds: of each point, for a budget in time. More than the full cost counts as the full cost;
        UsageError for less than the cheapest point.
        """
        first, last = self.points[0], self.points[-1]
        if budget.unit == "ms":
            least, share = min(milliseconds), self._within(budget.amount, milliseconds)
        else:
            full = self.full_gmacs if budget.unit else 1.0
            least, share = first.share * full, budget.amount / full
        if budget.amount < ROUNDED * least:
            shown = f"{least:.4g}{budget.unit}"
            raise UsageError(
                f"--budget {budget}", f"is below the model's least, {shown}", f"give {shown} or more"
            )
        return min(max(share, first.share), last.share)

    def at(self, share: float, dial: Dial) -> Setting:
        """The setting at a share of the full cost, between the two points beside it, or of the dearer one
        where its cost, rounded, is that share."""
        if share <= self.points[0].share:
            return self.points[0].setting
        for low, high in pairwise(self.points):
            if ROUNDED * high.share <= share <= high.share:
                return high.setting
            if share < high.share:
                part = (share - low.share) / (high.share - low.share)
                return dial.between(low.setting, high.setting, part)
        return self.points[-1].setting

    def _within(self, amount: float, milliseconds: Sequence[float]) -> float:
        """The dearest share that takes at most `amount`; times need not rise with the share."""
        timed = list(zip(self.points, milliseconds, strict=True))
        if milliseconds[-1] <= amount:
            return self.points[-1].share
        for (low, fast), (high, slow) in reversed(list(pairwise(timed))):
            if fast <= amount:  # and slow > amount, or a dearer point had been taken
                return low.share + (high.share - low.share) * (amount - fast) / (slow - fast)
        return self.points[0].share
