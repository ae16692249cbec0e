"""Read the next videos while a model runs on one: answers stay in order, errors with their video."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from foveate.infer.read import ReadVideo

S = TypeVar("S")


def ahead(
    begin: Callable[[S], ReadVideo], sources: Iterable[S], videos: int
) -> Iterator[tuple[S, Callable[[], ReadVideo]]]:
    """Yield each source with a call that gives its video, or raises what `begin` raised for it.

    begin: opens a video and reads its first window. Of a list, up to `videos` are begun in threads before
    they are asked for; of an iterator, which may wait for the answers, none.
    """
    if not isinstance(sources, Sequence) or len(sources) < 2:
        for source in sources:
            yield source, lambda source=source: begin(source)  # type: ignore[misc]
        return
    begun: deque[Future[ReadVideo]] = deque()
    with ThreadPoolExecutor(min(videos, os.cpu_count() or 1)) as pool:
        try:
            for number, source in enumerate(sources):
                for each in sources[number + len(begun) : number + 1 + videos]:
                    begun.append(pool.submit(begin, each))
                yield source, begun.popleft().result
        finally:
            for future in begun:
                if not future.cancel():
                    with suppress(Exception):
                        future.result().__exit__()
