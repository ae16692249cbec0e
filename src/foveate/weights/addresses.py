"""Addresses of published weights (`addresses.json`), by model and data set.

A second release of the same model on the same data has its origin in the name, such as `kinetics400_caffe2`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from foveate.errors import UsageError

DATA_SETS = {
    "activitynet200": "ActivityNet, 200 activities",
    "charades": "Charades, 157 actions at home",
    "diving48": "Diving48, 48 kinds of dives",
    "figures": "drawn figures, 8 actions of one small person",
    "hmdb51": "HMDB51, 51 human actions",
    "imagenet1000": "ImageNet, 1000 kinds of objects: not actions",
    "jester27": "Jester, 27 hand gestures",
    "kinetics400": "Kinetics-400, 400 human actions",
    "kinetics600": "Kinetics-600, 600 human actions",
    "kinetics700": "Kinetics-700, 700 human actions",
    "moments339": "Moments in Time, 339 events",
    "something_v1": "Something-Something V1, 174 ways of handling things",
    "something_v2": "Something-Something V2, 174 ways of handling things",
}
"""Descriptions of the training data of published weights, by the name of the data set."""


@dataclass(frozen=True)
class Address:
    """One published file of weights."""

    model: str  # a name in models/zoo.py
    weights: str  # name of the weights: the data set it was trained on
    origin: str  # code base that wrote it, a name in weights/origins/
    url: str
    page: bool = False  # the URL is a page from which to download by hand
    fields: dict[str, Any] = field(default_factory=dict)  # of the configuration that differ from the zoo's
    independent: bool = False  # multi-label: scores are sigmoids

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the data set in label order."""
        return class_names(self.data)

    @property
    def data(self) -> str:
        """Name of the data set, such as `kinetics400`."""
        return self.weights.removesuffix(f"_{self.origin}").removesuffix("_dense")


def class_names(data: str) -> tuple[str, ...]:
    """Class names of a public data set in label order. data: its name, such as `kinetics400`."""
    file = resources.files("foveate") / "data" / "class_names_files" / f"{data}.txt"
    return tuple(file.read_text(encoding="utf-8").splitlines())


def all_addresses() -> list[Address]:
    """All known published files."""
    text = (resources.files("foveate.weights") / "addresses.json").read_text(encoding="utf-8")
    return [Address(**line) for line in json.loads(text)]


def addresses(model: str) -> dict[str, Address]:
    """Published weights of a model, by their name."""
    return {address.weights: address for address in all_addresses() if address.model == model}


def find_address(model: str, weights: str) -> Address:
    """The address of named weights of a model; UsageError if there are none that can be downloaded."""
    known = addresses(model)
    if weights not in known:
        hint = f"there are {', '.join(known)}" if known else "give the path of a model file"
        raise UsageError(model, f"no weights '{weights}' are known", hint)
    found = known[weights]
    if found.page:
        hint = f"download them from {found.url}, then use `foveate convert`"
        raise UsageError(model, f"weights '{weights}' have to be downloaded by hand", hint)
    return found
