"""What a pass of Uni-AdaFocus has found so far, video by video, until it becomes a `ModelOutput`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.layers.boxes import box_edges
from foveate.models.adafocus.early_exit import hold_first_sure
from foveate.models.adafocus.seen import Glance
from foveate.models.base import ModelOutput


class Record:
    """Answers, decisions and multiply-adds of B videos with N candidates. Counts nothing in training mode."""

    def __init__(self, model: Any, batch: int, candidates: int) -> None:
        self.model = model
        self.read, self.looked = torch.zeros(2, batch, candidates, dtype=torch.bool)
        self.boxes = torch.zeros(batch, candidates, 4)
        self.weights = torch.zeros(batch, candidates)
        self.steps, self.looks = torch.zeros(2, batch, dtype=torch.int64)
        self.step_macs = torch.zeros(batch, len(model.answers_after), dtype=torch.int64)
        self.spent = self.spreading = 0  # before the next answers: at once, and evenly over them
        self.done = 0  # answers so far of who still reads
        self.step_logits = self.glance_features = self.local_features = torch.empty(0)

    def glanced(self, places: Tensor, glance: Glance, memory: tuple[Tensor, ...], early: bool) -> None:
        """f_G saw the frames at places (T,) of all videos. early: whether one may stop there."""
        config, features = self.model.config, glance.features
        self.places = places.cpu()
        self.read[:, self.places] = True
        self.glance_features = features.mean(1)
        self.local_features = features.new_zeros(len(features), self.model.local_channels)
        clip = torch.empty(1, 3, len(places), config.size, config.size)
        first, known = Glance(*(x[:1] for x in glance)), tuple(x[:1] for x in memory)
        self.spent = self._cost(("glance_at", clip), ("remember", first))
        answer = self._cost(("answer_glance", first, known))
        self.spent += answer if early else 0
        self.step_macs[:, 0] += 0 if early else answer

    def chose(self, videos: Tensor, weights: Tensor, pixels: Tensor, glance: Glance) -> None:
        """Weights (V, T) and boxes (V, N, 4), in pixels of the clip, of some videos (V,)."""
        rows = videos.unsqueeze(1)
        self.weights[rows, self.places] = weights.detach().float().cpu()
        self.boxes[videos] = box_edges(pixels.detach().float().cpu())
        temporal, spatial = glance.features[:1], glance.maps[:1]
        self.spent = self._cost(("temporal_policy", temporal), ("spatial_policy", spatial))

    def saw(self, videos: Tensor, places: Tensor, local: Tensor, memory: tuple[Tensor, ...]) -> None:
        """f_L found `local` (V, k, F) in the frames at places (V, k). memory: what was known before."""
        rows, count, patch = videos.unsqueeze(1), places.shape[1], self.model.patch
        first = int(self.looks[videos[0]])
        self.read[rows, places.cpu()] = True
        self.looked[rows, places.cpu()] = True
        self.looks[videos] += count
        self.local_features[videos, : local.shape[-1]] += local.sum(1).to(self.local_features.dtype)
        known = tuple(x[:1] for x in memory)
        together = self.model.seen_together(count)
        look = ("local_features", torch.empty(count, 3, patch, patch), together, *self.model.told)
        self.spreading = self._cost(look, ("answer_looks", known, local[:1], first))

    def answer(self, videos: Tensor, answers: Tensor, exits: Sequence[float]) -> Tensor:
        """The next answers (V, n, classes) of some videos (V,): which of them are not sure yet, (V,) bool.

        exits: thresholds of all answers; without any nobody is ever sure. The first sure answer stands for
        those after it.
        """
        count, first = answers.shape[1], self.done
        unsure = torch.ones(len(videos), dtype=torch.bool, device=answers.device)
        if exits:
            limits = torch.tensor(exits[first : first + count], device=answers.device)
            answers, unsure = hold_first_sure(answers, limits)
        if not first:
            total = len(self.model.answers_after)
            self.step_logits = answers.new_zeros(len(answers), total, answers.shape[-1])
        self.step_logits[videos, first:] = answers[:, -1:]  # stands until a later answer replaces it
        self.step_logits[videos, first : first + count] = answers
        self.step_macs[videos, first:] += self.spent + self.spreading
        for place in range(count - 1):
            self.step_macs[videos, first + place] -= self.spreading * (count - 1 - place) // count
        self.spent = self.spreading = 0
        self.done = first + count
        self.steps[videos] = self.done
        return unsure.cpu()

    def output(self) -> ModelOutput:
        looks = self.looks.clamp(min=1).unsqueeze(1).to(self.local_features.device)
        return ModelOutput(
            self.step_logits[:, -1],
            self.read,
            None if self.model.training else self.step_macs[:, -1],
            torch.cat([self.glance_features, self.local_features / looks], -1),
            step_logits=self.step_logits,
            steps=self.steps,
            step_macs=None if self.model.training else self.step_macs,
            boxes=self.boxes,
            looked=self.looked,
            weights=self.weights,
        )

    def _cost(self, *calls: tuple[Any, ...]) -> int:
        """Multiply-adds of calls of parts for one video."""
        return 0 if self.model.training else sum(self.model.part_macs(*call) for call in calls)
