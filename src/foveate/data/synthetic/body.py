"""From joint angles to the parts of a body in space.

Lengths are in statures (the standing height); x points to where the person faces, y to its left, z up. The
lowest joint stands on the ground whatever the pose, so bent knees lower the hips and a fallen body lies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from foveate.data.synthetic.actions import Angles, Pose

_THIGH, _SHIN, _FOOT, _TRUNK, _NECK, _ARM, _FORE = 0.25, 0.24, 0.075, 0.29, 0.115, 0.165, 0.15
_HIPS, _SHOULDERS = 0.055, 0.10  # half widths
_HEAD = 0.072  # radius

RIGHT, LEFT, MIDDLE = range(3)
SKIN, SHIRT, TROUSERS, SHOES = range(4)

# Joint, joint, radius at each in limb widths (one number thins all limbs), cloth. Each exists on both sides.
_LIMBS = (
    ("hip", "knee", 0.66, 0.52, TROUSERS),
    ("knee", "ankle", 0.52, 0.38, TROUSERS),
    ("ankle", "toe", 0.40, 0.34, SHOES),
    ("shoulder", "elbow", 0.48, 0.40, SHIRT),
    ("elbow", "wrist", 0.38, 0.32, SKIN),
    ("wrist", "wrist", 0.46, 0.46, SKIN),
    ("shoulder", "hip", 0.72, 0.62, SHIRT),
)


@dataclass(frozen=True)
class Parts:
    """A body over T frames as P sticks with round ends."""

    ends: np.ndarray  # (T, P, 2, 3), both ends in space
    radii: np.ndarray  # (P, 2), at both ends
    cloth: np.ndarray  # (P,), SKIN to SHOES
    side: np.ndarray  # (P,), RIGHT, LEFT or MIDDLE


def body_parts(pose: Pose, limb: float, frames: int) -> Parts:
    """The parts of a body in `pose`; `limb` is the width of its limbs in statures."""
    joints = _joints(pose, frames)
    rows = [
        (joints[a][:, side], joints[b][:, side], radius_a * limb, radius_b * limb, cloth, side)
        for a, b, radius_a, radius_b, cloth in _LIMBS
        for side in (RIGHT, LEFT)
    ]
    pelvis, chest, head = joints["hip"].mean(axis=1), joints["shoulder"].mean(axis=1), joints["head"][:, 0]
    rows.append((pelvis, chest, 0.75 * limb, 0.8 * limb, SHIRT, MIDDLE))
    rows.append((chest, head, 0.45 * limb, 0.45 * limb, SKIN, MIDDLE))
    rows.append((head, head, _HEAD, _HEAD, SKIN, MIDDLE))
    first, second, radius_a, radius_b, cloth, side = zip(*rows, strict=True)
    ends = np.stack([np.stack(first, axis=1), np.stack(second, axis=1)], axis=2)
    return Parts(ends, np.stack([radius_a, radius_b], axis=1), np.array(cloth), np.array(side))


def mirrored(pose: Pose) -> Pose:
    """The same movement done with the other hand and foot."""
    values = (getattr(pose, field.name) for field in fields(pose))
    return Pose(*(value[:, ::-1] if isinstance(value, np.ndarray) else value for value in values))


def _joints(pose: Pose, frames: int) -> dict[str, np.ndarray]:
    """Joints (T, 2, 3), right and left; the head is (T, 1, 3). The ground is at height 0."""
    lean = np.broadcast_to(pose.lean, (frames, 1))
    trunk = np.stack([np.sin(lean), np.zeros_like(lean), np.cos(lean)], axis=-1)
    across = np.array([[0, -1, 0], [0, 1, 0]])
    joints = {"hip": np.broadcast_to(_HIPS * across, (frames, 2, 3))}
    joints["shoulder"] = _TRUNK * trunk + _SHOULDERS * across
    joints["head"] = (_TRUNK + _NECK + _HEAD) * trunk
    joints["knee"] = joints["hip"] + _THIGH * _along(pose.thigh, pose.thigh_out, frames)
    joints["ankle"] = joints["knee"] + _SHIN * _along(pose.shin, pose.shin_out, frames)
    joints["toe"] = joints["ankle"] + _FOOT * _along(pose.shin + 1.45, 0.1, frames)
    joints["elbow"] = joints["shoulder"] + _ARM * _along(pose.arm, pose.arm_out, frames)
    joints["wrist"] = joints["elbow"] + _FORE * _along(pose.fore, pose.fore_out, frames)
    tipped = {name: _tip(joint, np.broadcast_to(pose.tip, (frames, 1))) for name, joint in joints.items()}
    lowest = np.min([joint[..., 2].min(axis=1) for joint in tipped.values()], axis=0)
    rise = np.broadcast_to(pose.lift, (frames, 1)) - lowest[:, None]
    return {name: joint + rise[..., None] * np.array([0, 0, 1]) for name, joint in tipped.items()}


def _along(angle: Angles, out: Angles, frames: int) -> np.ndarray:
    """Unit vectors (T, 2, 3) of both limbs, swung forward by `angle` and outward by `out`."""
    forward, outward = (np.broadcast_to(values, (frames, 2)) for values in (angle, out))
    across = np.sin(outward) * np.array([-1, 1])
    return np.stack([np.sin(forward) * np.cos(outward), across, -np.cos(forward) * np.cos(outward)], axis=-1)


def _tip(joint: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn points (T, n, 3) forward about the axis across the hips by angles (T, 1)."""
    x, y, z = np.moveaxis(joint, -1, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos + z * sin, y, z * cos - x * sin], axis=-1)
