"""A measurement in a process of its own, so that its peak of resident memory is its own."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def in_child(measure: Callable[..., T], *arguments: object) -> T:
    """What `measure` returns, from a new process; EOFError if it is killed, as for want of memory."""
    ours, theirs = get_context("spawn").Pipe()
    child = get_context("spawn").Process(target=_send, args=(theirs, measure, arguments))
    child.start()
    theirs.close()
    try:
        measured: T = ours.recv()
        return measured
    finally:
        child.join()


def _send(pipe: Connection, measure: Callable[..., object], arguments: tuple[object, ...]) -> None:
    pipe.send(measure(*arguments))
