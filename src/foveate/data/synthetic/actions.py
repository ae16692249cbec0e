"""What a small person can do: joint angles as functions of a phase.

Every action is a function of the phase p (T,) in radians, one movement each 2 pi, and returns a `Pose`. Limb
angles are absolute: 0 hangs straight down, pi / 2 points forward, and the `_out` angles swing the limb away
from the body's middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Angles = np.ndarray | float


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians: (T, 2), right side first; (T, 1) for the trunk; else a number."""

    thigh: Angles = 0.0
    thigh_out: Angles = 0.05
    shin: Angles = 0.0
    shin_out: Angles = 0.05
    arm: Angles = 0.0
    arm_out: Angles = 0.2
    fore: Angles = 0.15
    fore_out: Angles = 0.12
    lean: Angles = 0.0  # of the trunk, forward
    tip: Angles = 0.0  # of the whole body, forward: pi / 2 lies flat
    lift: Angles = 0.0  # of the lowest point above the ground, in body heights


def _sides(right: np.ndarray, left: Angles) -> np.ndarray:
    return np.stack(np.broadcast_arrays(right, left), axis=1)


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None]


def _there_and_back(p: np.ndarray) -> np.ndarray:
    """0 to 1 to 0 once each 2 pi, smoothly."""
    return (1 - np.cos(p)) / 2


def _turns(p: np.ndarray) -> np.ndarray:
    """(T, 2): the phase of the right side and of the left, half a movement apart."""
    return _sides(p, p + np.pi)


def walk(p: np.ndarray) -> Pose:
    """Steps with straight legs and hanging arms that swing against them."""
    turns = _turns(p)
    thigh = 0.5 * np.sin(turns)
    bend = 0.1 + 0.6 * np.maximum(np.cos(turns), 0)
    arm = -0.55 * np.sin(turns)
    return Pose(thigh=thigh, shin=thigh - bend, arm=arm, fore=arm + 0.3, arm_out=0.1, lean=0.05)


def run(p: np.ndarray) -> Pose:
    """Long steps with high knees, heels that fly up behind, and bent arms."""
    turns = _turns(1.4 * p)
    thigh = 0.2 + 0.9 * np.sin(turns)
    bend = 0.35 + 1.4 * np.maximum(np.cos(turns), 0)
    arm = -1.0 * np.sin(turns)
    hop = 0.05 * np.abs(np.sin(1.4 * p))
    return Pose(
        thigh=thigh, shin=thigh - bend, arm=arm, fore=arm + 1.6, arm_out=0.1, lean=0.3, lift=_column(hop)
    )


def jump(p: np.ndarray) -> Pose:
    """A dip, then both feet off the ground with the arms thrown up."""
    dip, up = np.maximum(-np.sin(p), 0), np.maximum(np.sin(p), 0)
    arm = _column(2.6 * up - 0.8 * dip)
    thigh, shin = _column(0.9 * dip), _column(-0.7 * dip - 0.2 * up)
    lean = _column(0.45 * dip)
    return Pose(thigh=thigh, shin=shin, arm=arm, fore=arm + 0.2, lean=lean, lift=_column(0.3 * up))


def wave(p: np.ndarray) -> Pose:
    """One arm held up; its forearm goes from side to side, twice in a movement."""
    up = np.full_like(p, 2.1)
    return Pose(
        arm_out=_sides(up, 0.2), fore_out=_sides(2.75 + 0.75 * np.sin(2 * p), 0.12), fore=_sides(0 * p, 0.15)
    )


def clap(p: np.ndarray) -> Pose:
    """Both arms held forward; the hands meet and part, twice in a movement."""
    apart = _column(_there_and_back(2 * p))
    return Pose(arm=1.0, arm_out=0.1 + 1.1 * apart, fore=1.5, fore_out=-0.75 + 2.0 * apart)


def squat(p: np.ndarray) -> Pose:
    """Deep bends of the knees with the arms held out in front."""
    low = _column(_there_and_back(p))
    return Pose(
        thigh=1.75 * low,
        shin=-0.75 * low,
        thigh_out=0.15,
        arm=1.5 * low,
        fore=0.1 + 1.5 * low,
        lean=0.5 * low,
    )


def kick(p: np.ndarray) -> Pose:
    """One leg is drawn back, then thrown up in front; the trunk leans away and the arms balance."""
    back, up = np.maximum(-np.sin(p), 0), np.maximum(np.sin(p), 0)
    thigh = 1.7 * up - 0.5 * back
    shin = 1.6 * up**2 - 1.5 * back
    return Pose(
        thigh=_sides(thigh, -0.05),
        shin=_sides(shin, -0.1),
        arm=_sides(-0.9 * up + 0.7 * back, 0.9 * up - 0.7 * back),
        arm_out=0.5,
        fore=_sides(-0.5 * up + 1.1 * back, 1.3 * up),
        fore_out=0.5,
        lean=_column(-0.35 * up + 0.15 * back),
    )


def fall(p: np.ndarray) -> Pose:
    """The whole body tips over, lies for a while with the arms stretched out, and gets up again."""
    down = np.clip(0.5 - 1.1 * np.cos(p), 0, 1) ** 1.5
    bend = _column(np.sin(np.pi * down))
    arm = _column(0.1 + 2.4 * down)
    return Pose(thigh=0.5 * bend, shin=-0.6 * bend, arm=arm, fore=arm + 0.2, tip=_column(0.49 * np.pi * down))


def punch(p: np.ndarray) -> Pose:
    """Fists at the chin; one after the other they shoot straight forward."""
    reach = np.maximum(np.sin(_turns(p)), 0)
    return Pose(
        thigh=_sides(0 * p - 0.3, 0.35),
        shin=_sides(0 * p - 0.5, 0.1),
        arm=0.35 + 1.25 * reach,
        fore=2.6 - 1.0 * reach,
        arm_out=0.15,
        fore_out=-0.1,
        lean=0.12,
    )


def bow(p: np.ndarray) -> Pose:
    """The trunk bends far forward and comes up; the legs stay straight and the arms hang."""
    low = _column(_there_and_back(p))
    return Pose(
        thigh=-0.12 * low, shin=-0.12 * low, arm=0.05 + 0.1 * low, fore=0.15 + 0.1 * low, lean=1.55 * low
    )


def drink(p: np.ndarray) -> Pose:
    """One hand goes to the mouth and back."""
    high = _there_and_back(p)
    return Pose(
        arm=_sides(0.9 * high, 0), fore=_sides(0.3 + 2.3 * high, 0.15), fore_out=_sides(-0.5 * high, 0.12)
    )


def juggle(p: np.ndarray) -> Pose:
    """Both forearms forward; the hands go up and down in turn, twice in a movement."""
    turns = _turns(2 * p)
    return Pose(arm=0.1, fore=1.4 + 0.6 * np.sin(turns), arm_out=0.2, fore_out=0.1)


POSES: dict[str, Callable[[np.ndarray], Pose]] = {
    "walk": walk,
    "run": run,
    "jump": jump,
    "wave": wave,
    "clap": clap,
    "squat": squat,
    "kick": kick,
    "fall": fall,
    "punch": punch,
    "bow": bow,
    "drink": drink,
    "juggle": juggle,
}
