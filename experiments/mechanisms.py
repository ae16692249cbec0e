"""Simulated mechanisms as sticks in motion: what bodies do when let go, and what driven machines do.

Each function solves one system's equations for random sizes, speeds and starting points, and returns it as
sticks with round ends at the asked instants. Lengths are of the order of one, x to the right, y down. Free
systems obey gravity and friction; machines are driven evenly, or nearly, and obey their joints. Every class
is built of the same discs and rods, so that a single part gives none of them away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BODY, FRAME, DETAIL = 0, 1, 2  # what a stick is painted as
Derivative = Callable[[np.ndarray], np.ndarray]
STEPS = 24  # of the integrator between two instants


@dataclass(frozen=True)
class Sticks:
    """ends: (T, P, 2, 2), two points of each of P parts. radii: (P,). paints: (P,), BODY, FRAME or DETAIL."""

    ends: np.ndarray
    radii: np.ndarray
    paints: np.ndarray


class _Parts:
    """Collects the parts of a mechanism, from the farthest to the nearest."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.ends: list[np.ndarray] = []
        self.radii: list[float] = []
        self.paints: list[int] = []

    def rod(self, a: np.ndarray, b: np.ndarray, radius: float, paint: int = BODY) -> None:
        """A stick from a to b, each (2,) at rest or (T, 2)."""
        self.ends.append(np.stack([np.broadcast_to(p, (self.count, 2)) for p in (a, b)], axis=1))
        self.radii.append(radius)
        self.paints.append(paint)

    def disc(self, centre: np.ndarray, radius: float, paint: int = BODY) -> None:
        self.rod(centre, centre, radius, paint)

    def path(self, points: np.ndarray, radius: float, paint: int = BODY) -> None:
        """Sticks from point to point, (N, 2) or (T, N, 2)."""
        for k in range(points.shape[-2] - 1):
            self.rod(points[..., k, :], points[..., k + 1, :], radius, paint)

    def wheel(self, centre: np.ndarray, radius: float, angle: np.ndarray, spokes: int = 3) -> None:
        """A disc with bars across it that show how it turns. angle: (T,)."""
        self.disc(centre, radius)
        for k in range(spokes):
            arm = 0.75 * radius * polar(angle + np.pi * k / spokes)
            self.rod(centre - arm, centre + arm, 0.12 * radius, DETAIL)

    def sticks(self) -> Sticks:
        return Sticks(np.stack(self.ends, axis=1), np.array(self.radii), np.array(self.paints))


def polar(angle: np.ndarray | float, length: np.ndarray | float = 1.0) -> np.ndarray:
    """Points (..., 2) at an angle that grows from the right downwards."""
    return np.stack(np.broadcast_arrays(np.cos(angle) * length, np.sin(angle) * length), axis=-1)


def point(x: float, y: float) -> np.ndarray:
    return np.array([x, y])


def integrate(slope: Derivative, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """States (T, ...) at `times` of a system whose rate of change is `slope`; Runge and Kutta's fourth."""
    states = [np.asarray(start, float)]
    for gap in np.diff(times):
        state, h = states[-1], gap / STEPS
        for _ in range(STEPS):
            k1 = slope(state)
            k2 = slope(state + h / 2 * k1)
            k3 = slope(state + h / 2 * k2)
            k4 = slope(state + h * k3)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(state)
    return np.stack(states)


def _turning(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """The angle (T,) of a motor that runs at a speed of its own, not quite evenly, either way round."""
    speed, wave = rng.uniform(2.5, 5.5), rng.uniform(0, 0.25)
    phase = rng.uniform(0, 2 * np.pi, 2)
    return rng.choice((-1, 1)) * (speed * times + wave * np.sin(1.3 * times + phase[0])) + phase[1]


# ---- free systems


def pendulum(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A weight on a rod."""
    pull, loss = rng.uniform(9, 25), rng.uniform(0.05, 0.3)
    start = [rng.choice((-1, 1)) * rng.uniform(0.7, 1.6), rng.uniform(-1, 1)]
    swing = integrate(lambda s: np.array([s[1], -pull * np.sin(s[0]) - loss * s[1]]), start, times)[:, 0]
    parts, pivot = _Parts(len(times)), point(0, 0)
    weight = polar(np.pi / 2 + swing)
    parts.rod(point(-0.3, 0), point(0.3, 0), 0.05, FRAME)
    parts.rod(pivot, weight, 0.035)
    parts.disc(weight, rng.uniform(0.13, 0.2), DETAIL)
    return parts.sticks()


def double_pendulum(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Two rods, the second hung on the first."""
    pull, ratio = rng.uniform(6, 14), rng.uniform(0.7, 1.2)

    def slope(s: np.ndarray) -> np.ndarray:
        a, b, da, db = s
        gap = a - b
        share = 2 - np.cos(gap) ** 2  # equal masses
        turn_a = -2 * pull * np.sin(a) + pull * np.sin(b) * np.cos(gap)
        turn_a -= np.sin(gap) * (ratio * db**2 + da**2 * np.cos(gap))
        turn_b = 2 * (pull * np.sin(a) * np.cos(gap) - pull * np.sin(b))
        turn_b += np.sin(gap) * (2 * da**2 + ratio * db**2 * np.cos(gap))
        return np.array([da, db, turn_a / share - 0.1 * da, turn_b / (ratio * share) - 0.1 * db])

    start = [*rng.choice((-1, 1), 2) * rng.uniform(1.2, 2.6, 2), 0, 0]
    angles = integrate(slope, start, times)[:, :2] + np.pi / 2
    parts, length = _Parts(len(times)), 1 / (1 + ratio)
    elbow = polar(angles[:, 0], length)
    tip = elbow + polar(angles[:, 1], length * ratio)
    parts.rod(point(-0.3, 0), point(0.3, 0), 0.05, FRAME)
    parts.rod(point(0, 0), elbow, 0.035)
    parts.rod(elbow, tip, 0.035)
    parts.disc(elbow, 0.1, DETAIL)
    parts.disc(tip, 0.12, DETAIL)
    return parts.sticks()


def spring(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A weight that bobs below a coil."""
    stiff, loss = rng.uniform(15, 60), rng.uniform(0.1, 0.5)
    start = [rng.choice((-1, 1)) * rng.uniform(0.2, 0.35), rng.uniform(-0.5, 0.5)]
    bob = integrate(lambda s: np.array([s[1], -stiff * s[0] - loss * s[1]]), start, times)[:, 0]
    turns = int(rng.integers(4, 7))
    share = np.linspace(0, 1, 2 * turns + 1)
    coil = np.zeros((len(times), len(share), 2))
    coil[:, :, 1] = np.outer(0.6 + bob, share)
    coil[:, 1:-1:2, 0], coil[:, 2:-1:2, 0] = 0.13, -0.13
    parts = _Parts(len(times))
    parts.rod(point(-0.3, 0), point(0.3, 0), 0.05, FRAME)
    parts.path(coil, 0.025)
    parts.disc(coil[:, -1] + point(0, 0.15), rng.uniform(0.14, 0.2), DETAIL)
    return parts.sticks()


def bounce(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A ball that falls on a plate and jumps up again, between two posts."""
    pull, spring_back = rng.uniform(5, 14), rng.uniform(0.75, 0.95)
    height, speed, place = rng.uniform(0.4, 0.8), 0.0, rng.uniform(-0.25, 0.25)
    aside, ball = rng.choice((-1, 1)) * rng.uniform(0.1, 0.5), rng.uniform(0.11, 0.16)
    centres = []
    for gap in np.diff(times, prepend=times[0] - rng.uniform(0, 0.8)):
        for _ in range(STEPS):
            h = gap / STEPS
            speed += pull * h
            height, place = height - speed * h, place + aside * h
            if height < ball and speed > 0:
                height, speed = ball, -spring_back * speed
            if abs(place) > 0.4 - ball:
                aside = -abs(aside) * np.sign(place)
        centres.append([place, -height])
    parts = _Parts(len(times))
    parts.rod(point(-0.45, 0.05), point(0.45, 0.05), 0.05, FRAME)
    for x in (-0.45, 0.45):
        parts.rod(point(x, 0.05), point(x, -0.8), 0.03, BODY)
    parts.disc(np.array(centres), ball, DETAIL)
    return parts.sticks()


def cradle(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Balls on strings side by side: a push runs through to the other end."""
    pull, radius, count = rng.uniform(12, 30), 0.11, int(rng.integers(3, 5))
    swing, phase = rng.uniform(0.6, 1.0), rng.uniform(0, 2 * np.pi)
    wave = swing * np.sin(np.sqrt(pull) * times + phase) * np.exp(-rng.uniform(0, 0.2) * times)
    angles = np.zeros((len(times), count))
    angles[:, 0], angles[:, -1] = np.minimum(wave, 0), np.maximum(wave, 0)
    parts, first = _Parts(len(times)), -radius * (count - 1)
    parts.rod(point(first - 0.25, 0), point(0.25 - first, 0), 0.05, FRAME)
    balls = []
    for k in range(count):
        hook = point(first + 2 * radius * k, 0)
        balls.append(hook + polar(np.pi / 2 - angles[:, k], 0.75))
        parts.rod(hook, balls[-1], 0.025)
    for ball in balls:
        parts.disc(ball, radius, DETAIL)
    return parts.sticks()


def rolling(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A wheel that rolls to and fro in a bowl."""
    pull, radius, bowl = rng.uniform(8, 20), rng.uniform(0.15, 0.22), 0.65
    start = [rng.choice((-1, 1)) * rng.uniform(0.6, 1.1), 0]
    loss = rng.uniform(0.05, 0.3)
    swing = integrate(lambda s: np.array([s[1], -pull * np.sin(s[0]) - loss * s[1]]), start, times)[:, 0]
    parts = _Parts(len(times))
    parts.path(polar(np.linspace(0.15, np.pi - 0.15, 9), bowl + 0.05), 0.045, FRAME)
    way = bowl - radius
    parts.wheel(polar(np.pi / 2 - swing, way), radius, swing * way / radius, 2)
    return parts.sticks()


def beam_and_ball(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A see-saw with a ball that rolls along it and tips it over at each end."""
    pull, ball = rng.uniform(1.5, 4), 0.12

    def slope(s: np.ndarray) -> np.ndarray:
        x, dx, tilt, turn = s
        stop = -40 * np.sign(x) * max(abs(x) - 0.5, 0) - 3 * dx * (abs(x) > 0.5)
        load = 10 * x - 60 * np.sign(tilt) * max(abs(tilt) - 0.35, 0) - 6 * turn
        return np.array([dx, pull * np.sin(tilt) + stop, turn, load])

    start = [rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3), 0]
    states = integrate(slope, start, times)
    along = polar(states[:, 2])
    up = np.stack([along[:, 1], -along[:, 0]], axis=1)
    parts = _Parts(len(times))
    parts.rod(point(0, 0), point(-0.18, 0.4), 0.04, FRAME)
    parts.rod(point(0, 0), point(0.18, 0.4), 0.04, FRAME)
    parts.rod(-0.65 * along, 0.65 * along, 0.045)
    parts.disc(along * states[:, :1] + up * (ball + 0.045), ball, DETAIL)
    return parts.sticks()


def chain(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A rope of short links that swings from its upper end."""
    links, pull = int(rng.integers(6, 9)), rng.uniform(4, 10)
    length = 1.0 / links
    bend = rng.choice((-1, 1)) * rng.uniform(0.8, 1.5) + np.linspace(0, rng.uniform(-1.5, 1.5), links)
    now = np.concatenate([np.zeros((1, 2)), np.cumsum(polar(np.pi / 2 + bend, length), axis=0)])
    before, shapes = now.copy(), []
    for gap in np.diff(times, prepend=times[0] - 0.2):
        for _ in range(STEPS):
            h = gap / STEPS
            move = (now - before) * (1 - 0.2 * h)
            before, now = now, now + move + np.array([0, pull]) * h * h
            for _ in range(12):  # links keep their lengths (Verlet's scheme with projected distances)
                now[0] = 0
                apart = np.diff(now, axis=0)
                excess = (np.linalg.norm(apart, axis=1, keepdims=True) / length - 1) * apart / 2
                now[:-1] += excess * 0.9
                now[1:] -= excess * 0.9
        shapes.append(now.copy())
    parts = _Parts(len(times))
    parts.rod(point(-0.3, 0), point(0.3, 0), 0.05, FRAME)
    parts.path(np.stack(shapes), 0.045)
    parts.disc(np.stack(shapes)[:, -1], 0.09, DETAIL)
    return parts.sticks()


def pulley(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Two weights on a cord over a wheel; one sinks, strikes its stop, and is thrown back."""
    lift, wheel = rng.uniform(1.0, 3.5), rng.uniform(0.16, 0.22)

    def slope(s: np.ndarray) -> np.ndarray:
        return np.array([s[1], lift - 150 * max(s[0] - 0.25, 0) - 150 * min(s[0] + 0.3, 0)])

    height = rng.choice((-1, 1)) * integrate(slope, [rng.uniform(-0.3, 0.2), 0], times)[:, 0]
    parts, zero = _Parts(len(times)), np.zeros(len(times))
    parts.rod(point(0, -0.3), point(0, 0), 0.045, FRAME)
    for side in (-1, 1):
        hang = np.stack([zero + side * wheel, 0.5 + side * height], axis=1)
        parts.rod(point(side * wheel, 0), hang, 0.025)
        parts.disc(hang, 0.13, DETAIL)
    parts.wheel(point(0, 0), wheel, height / wheel, 2)
    return parts.sticks()


def inverted(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A weight on a rod that stands on a cart; the cart runs under it and fails."""
    pull = rng.uniform(5, 12)

    def slope(s: np.ndarray) -> np.ndarray:
        x, dx, tilt, turn = s
        push = np.clip(14 * tilt + 1.5 * turn + 2 * x + 1.5 * dx, -12, 12)
        return np.array([dx, push - 1.0 * dx, turn, pull * np.sin(tilt) - push * np.cos(tilt)])

    start = [rng.uniform(-0.2, 0.2), 0, rng.choice((-1, 1)) * rng.uniform(0.3, 0.7), rng.uniform(-1, 1)]
    states = integrate(slope, start, times)
    cart = np.stack([np.clip(states[:, 0], -0.5, 0.5), np.zeros(len(times))], axis=1)
    parts = _Parts(len(times))
    parts.rod(point(-0.65, 0.12), point(0.65, 0.12), 0.04, FRAME)
    tip = cart + polar(states[:, 2] - np.pi / 2, 0.8)
    parts.rod(cart - point(0.15, 0), cart + point(0.15, 0), 0.08)
    parts.rod(cart, tip, 0.035)
    parts.disc(tip, rng.uniform(0.12, 0.16), DETAIL)
    return parts.sticks()


# ---- driven machines


def crank(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A wheel moves a piston by a rod."""
    angle, throw, rod = _turning(rng, times), rng.uniform(0.18, 0.24), rng.uniform(0.5, 0.6)
    pin = polar(angle, throw)
    piston = np.stack([pin[:, 0] + np.sqrt(rod**2 - pin[:, 1] ** 2), np.zeros(len(times))], axis=1)
    parts = _Parts(len(times))
    for y in (-0.17, 0.17):
        parts.rod(point(rod - throw - 0.1, y), point(rod + throw + 0.2, y), 0.03, FRAME)
    parts.disc(point(0, 0), throw + 0.08)
    parts.rod(piston, piston + point(0.12, 0), 0.11)
    parts.rod(pin, piston, 0.04, DETAIL)
    parts.disc(pin, 0.06, DETAIL)
    return parts.sticks()


def gears(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Two toothed wheels that turn against each other."""
    angle, small = _turning(rng, times) * 0.7, rng.uniform(0.22, 0.3)
    parts, large = _Parts(len(times)), 0.66 - small
    teeth = [max(6, round(radius * 34)) for radius in (small, large)]
    wheels = ((point(-small, 0), small, angle), (point(large, 0), large, -angle * teeth[0] / teeth[1]))
    for (centre, radius, turn), count in zip(wheels, teeth, strict=True):
        for k in range(count):
            tooth = polar(turn + 2 * np.pi * k / count)
            parts.rod(centre + 0.8 * radius * tooth, centre + 1.08 * radius * tooth, 0.035)
        parts.wheel(centre, 0.92 * radius, turn, 2)
    return parts.sticks()


def belt(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Two wheels joined by a belt, turning alike."""
    angle, small = _turning(rng, times), rng.uniform(0.16, 0.24)
    parts, large = _Parts(len(times)), 0.44 - small
    left, right = point(-0.42, 0), point(0.42, 0)
    parts.wheel(left, small, angle, 2)
    parts.wheel(right, large, angle * small / large, 2)
    for side in (-1, 1):
        parts.rod(left + point(0, side * small), right + point(0, side * large), 0.03, FRAME)
    return parts.sticks()


def windmill(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Blades on a mast."""
    angle, count = _turning(rng, times) * 0.7, int(rng.integers(3, 5))
    parts = _Parts(len(times))
    parts.rod(point(0, 0), point(0, 0.75), 0.05, FRAME)
    for k in range(count):
        turn = angle + 2 * np.pi * k / count
        parts.rod(point(0, 0), polar(turn, 0.5), 0.03)
        parts.rod(polar(turn + 0.12, 0.22), polar(turn + 0.12, 0.5), 0.06)
    parts.disc(point(0, 0), 0.08, DETAIL)
    return parts.sticks()


def four_bar(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A crank makes a longer lever rock, by a rod between their ends."""
    angle = _turning(rng, times)
    base, throw, lever, rod = 0.7, rng.uniform(0.16, 0.22), rng.uniform(0.5, 0.6), rng.uniform(0.62, 0.72)
    pin, pivot = polar(angle, throw), point(base, 0)
    apart = np.linalg.norm(pivot - pin, axis=1)
    along = np.arctan2(-pin[:, 1], base - pin[:, 0])
    inside = np.arccos(np.clip((apart**2 + rod**2 - lever**2) / (2 * apart * rod), -1, 1))
    end = pin + polar(along - inside, rod)
    parts = _Parts(len(times))
    parts.rod(point(0, 0.03), pivot + point(0, 0.03), 0.045, FRAME)
    parts.rod(pivot, end, 0.045)
    parts.rod(point(0, 0), pin, 0.05)
    parts.rod(pin, end, 0.03, DETAIL)
    for joint in (pin, end):
        parts.disc(joint, 0.06, DETAIL)
    return parts.sticks()


def cam(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A disc that turns about a point off its middle lifts a rod."""
    angle, off, radius = _turning(rng, times), rng.uniform(0.12, 0.17), rng.uniform(0.24, 0.3)
    middle = polar(angle, off)
    top = middle[:, 1] - np.sqrt(radius**2 - middle[:, 0] ** 2)
    foot = np.stack([np.zeros(len(times)), top - 0.05], axis=1)
    parts = _Parts(len(times))
    for x in (-0.12, 0.12):
        parts.rod(point(x, -0.62), point(x, -0.78), 0.04, FRAME)
    parts.rod(foot, foot - point(0, 0.45), 0.05)
    parts.rod(foot - point(0.15, 0), foot + point(0.15, 0), 0.04)
    parts.disc(middle, radius)
    parts.disc(point(0, 0), 0.05, DETAIL)
    parts.disc(middle + 0.6 * radius * polar(angle), 0.05, DETAIL)
    return parts.sticks()


def wiper(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """An arm that sweeps to and fro, with a blade that stays upright."""
    sweep = rng.uniform(0.6, 0.95) * np.sin(_turning(rng, times))
    tip = polar(sweep - np.pi / 2, 0.65)
    parts = _Parts(len(times))
    parts.rod(point(-0.35, 0.08), point(0.35, 0.08), 0.05, FRAME)
    parts.rod(point(0, 0), tip, 0.035)
    parts.rod(tip - point(0, 0.25), tip + point(0, 0.25), 0.045)
    parts.disc(point(0, 0), 0.1, DETAIL)
    return parts.sticks()


def pump(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """A beam on a post nods and moves a rod that hangs from its head."""
    tilt = rng.uniform(0.3, 0.5) * np.sin(_turning(rng, times))
    head, tail = polar(tilt, 0.5), -polar(tilt, 0.4)
    parts = _Parts(len(times))
    for x in (-0.15, 0.15):
        parts.rod(point(0, 0), point(x, 0.55), 0.04, FRAME)
    parts.rod(head, head * point(1, 0) + point(0, 0.15) + head * point(0, 1) + point(0, 0.3), 0.03, DETAIL)
    parts.rod(head, tail, 0.055)
    parts.disc(head, 0.11)
    parts.disc(tail, 0.12, DETAIL)
    return parts.sticks()


def scissor_lift(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Crossed bars that raise a platform."""
    spread = 0.75 + rng.uniform(0.3, 0.42) * np.sin(_turning(rng, times))
    arm, floors = 0.5, 2
    wide, high = arm * np.cos(spread) / 2, arm * np.sin(spread)
    parts, zero = _Parts(len(times)), np.zeros(len(times))
    parts.rod(point(-0.28, 0.06), point(0.28, 0.06), 0.04, FRAME)
    for floor in range(floors):
        low, top = -high * floor, -high * (floor + 1)
        for side in (-1, 1):
            parts.rod(np.stack([side * wide, low], 1), np.stack([-side * wide, top], 1), 0.035)
        parts.disc(np.stack([zero, (low + top) / 2], 1), 0.045, DETAIL)
    up = np.stack([zero, -high * floors - 0.05], 1)
    parts.rod(up - point(0.26, 0), up + point(0.26, 0), 0.05)
    return parts.sticks()


def shears(rng: np.random.Generator, times: np.ndarray) -> Sticks:
    """Two blades on one pin open and close, and so do their handles."""
    spread = 0.42 + 0.36 * np.sin(_turning(rng, times))
    parts, rest = _Parts(len(times)), -np.pi / 2
    for side in (-1, 1):
        parts.rod(point(0, 0), polar(rest + side * spread, 0.55), 0.05)
        handle = -polar(rest + side * spread, 0.35)
        parts.rod(point(0, 0), handle, 0.04, FRAME)
        parts.disc(handle, 0.1, DETAIL)
    parts.disc(point(0, 0), 0.06, DETAIL)
    return parts.sticks()


Simulation = Callable[[np.random.Generator, np.ndarray], Sticks]
FREE: tuple[Simulation, ...] = (
    pendulum,
    double_pendulum,
    spring,
    bounce,
    cradle,
    rolling,
    beam_and_ball,
    chain,
    pulley,
    inverted,
)
DRIVEN: tuple[Simulation, ...] = (
    crank,
    gears,
    belt,
    windmill,
    four_bar,
    cam,
    wiper,
    pump,
    scissor_lift,
    shears,
)
WORLDS = {"free": FREE, "driven": DRIVEN}
