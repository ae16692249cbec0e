"""What is known of a model in int8: which of its parts are kept so, and how far its answers moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from foveate.choices import Precision
from foveate.errors import OutputError
from foveate.infer.artefacts import ArtefactStore

WARN_BELOW = 0.99  # of the clips whose best class stays


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration.

    ways: for each part, the ways of calling it that are kept in int8. plain: the precision of all others.
    used, checked: numbers of clips that it was calibrated on, and compared on. agreement: share of those
    compared whose best class is that of eager fp32, 0 to 1. error: the largest difference of their logits,
    relative to the largest logit.
    """

    ways: Mapping[str, tuple[str, ...]]
    plain: Precision
    used: int
    checked: int = 0
    agreement: float = 0.0
    error: float = 0.0

    @property
    def keeps_answers(self) -> bool:
        """Whether the user need not be warned."""
        return self.agreement >= WARN_BELOW

    @property
    def line(self) -> str:
        """One line for the user."""
        parts = ", ".join(part for part, ways in self.ways.items() if ways) or "no part, as none gains"
        agreed = f"best class as in eager fp32 in {self.agreement:.1%} of {self.checked} clips"
        error = f"logits within {self.error:.1g}"
        return f"{parts}, the rest {self.plain}; {agreed}, {error}; calibrated on {self.used} others"


def recall(store: ArtefactStore, facts: Mapping[str, str]) -> Calibration | None:
    """The calibration of a model; None if there is none that can be read. facts: of model and compiler."""
    try:
        kept: dict[str, Any] = store.recall(_about(facts))
        ways = {str(part): tuple(map(str, ways)) for part, ways in kept["ways"].items()}
        found = Calibration(**kept | {"ways": ways})
        return found if found.checked > 0 and found.plain in ("fp32", "bf16") else None
    except (TypeError, KeyError, AttributeError):
        return None


def remember(store: ArtefactStore, facts: Mapping[str, str], calibration: Calibration) -> None:
    """Keep a calibration for `recall`."""
    store.remember(_about(facts), asdict(calibration))


def forget(store: ArtefactStore, facts: Mapping[str, str]) -> None:
    """Drop a calibration; OutputError for a folder in which none could be kept."""
    store.remember(_about(facts), {}, quiet=True)
    if store.recall(_about(facts)) != {}:
        hint = "set FOVEATE_CACHE to a folder in which you may write"
        raise OutputError(store.folder, "cannot be written, so nothing that is calibrated is kept", hint)


def _about(facts: Mapping[str, str]) -> dict[str, str]:
    return {**facts, "kept": "calibration"}
