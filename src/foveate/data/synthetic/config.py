"""How the figure videos look: one dataclass whose fields make the task easier or harder."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.data.synthetic.actions import POSES
from foveate.errors import UsageError

ACTIONS = ("walk", "run", "jump", "wave", "clap", "squat", "kick", "fall", "punch", "bow")
HAND_ACTIONS = ("wave", "clap", "punch", "drink", "juggle")  # told apart by the arms alone: harder

Range = tuple[float, float]


@dataclass(frozen=True)
class FiguresConfig:
    """Look of the figure videos; pairs are ranges that each video draws from.

    "Side" is the short side of the frame. A figure that is not lighter than its surroundings, or that is much
    thinner, is hard to read even for a network that is shown the right place.
    """

    width: int = 320  # pixels, even
    height: int = 240  # pixels, even
    frames: int = 48
    fps: int = 16
    actions: tuple[str, ...] = ACTIONS  # the classes, in order
    stature: Range = (0.30, 0.42)  # of the standing person, in sides
    limb: Range = (0.055, 0.075)  # width of a limb, in statures
    cycles: Range = (1.2, 2.6)  # movements in one video
    heading: Range = (0.4, 0.95)  # radians from the side view towards the viewer
    jitter: float = 0.08  # radians by which joints differ from the pattern
    drift: float = 0.2  # farthest that the person glides, in sides; the same law for all actions
    # Middle share of width and height that holds the person: a 7/8 crop of the middle square never cuts it.
    roam: Range = (0.656, 0.875)
    clutter: tuple[int, int] = (7, 11)  # moving things behind the person
    scenery: tuple[int, int] = (14, 22)  # resting things, part of the panned background
    pan: float = 0.2  # farthest that the background moves, in sides
    figure_light: Range = (165, 255)  # channel values of the person
    clutter_light: Range = (15, 145)  # channel values of moving and resting things
    texture_light: Range = (25, 120)  # channel values of the background
    noise: float = 3.0  # standard deviation of the grain in channel values
    crf: float = 25  # x264 quality: less is better

    def __post_init__(self) -> None:
        if self.width < 32 or self.height < 32 or self.width % 2 or self.height % 2:
            raise UsageError("FiguresConfig", f"a frame of {self.width}x{self.height}", "even sides from 32")
        if self.frames < 1 or self.fps < 1:
            raise UsageError("FiguresConfig", "frames and fps must be at least 1")
        if not self.actions or (unknown := set(self.actions) - POSES.keys()):
            cause = f"unknown action {sorted(unknown)[0]}" if self.actions else "no actions"
            raise UsageError("FiguresConfig.actions", cause, f"choose from {', '.join(POSES)}")
        for name in ("stature", "limb", "cycles", "heading", "clutter", "scenery", "figure_light"):
            low, high = getattr(self, name)
            if low > high:
                raise UsageError(f"FiguresConfig.{name}", f"the range {low} to {high} is empty")
