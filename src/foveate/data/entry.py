"""What a list of videos is, whatever file it came from: plain data that the data set and the check share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One video of a list, or one part of it, and its labels."""

    path: str  # a video file, a folder of numbered images or a .npy array
    labels: tuple[int, ...] = ()  # class indices counted from 0; empty where the list has none
    frames: int | None = None  # frames of the whole source, where the list says so
    start: int | None = None  # first frame of the part, counted from 0
    end: int | None = None  # one past its last frame
    start_s: float | None = None  # the same part given in seconds
    end_s: float | None = None
    template: str | None = None  # names of the images, such as img_{:05d}.jpg; None: found by looking


@dataclass(frozen=True)
class VideoList:
    """The videos of a list with the names of their classes, and what was understood while reading."""

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]  # in index order; numerals where nobody gave names; empty without labels
    format: str
    notes: tuple[str, ...] = ()  # detected format and label base, duplicates and everything left out
    multi_label: bool = False
    label_base: int = 0  # what the list counts its classes from; the entries always count from 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)
