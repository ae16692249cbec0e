"""The missing parts of a job, or of one share of it, in this process and its readers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from foveate.batch.answer import Answering
from foveate.batch.job import Job


def work(
    job: Job,
    answering: Answering,
    parts: list[int],
    report: Callable[[int, int], None],
) -> None:
    """Answer the videos of `parts` and write them, one after the other.

    report: called with the numbers of videos answered and of all.
    """
    places = [place for part in parts for place in job.places(part)]
    rows, done = answering.rows(job.entries, places), 0
    for part in parts:
        job.write(part, list(islice(rows, len(job.places(part)))))
        done += len(job.places(part))
        report(done, len(places))
