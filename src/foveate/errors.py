"""Exceptions with a one-line message that names the file, the cause and what to do."""

from __future__ import annotations


class FoveateError(Exception):
    """An error that the user can fix; the command line prints `error: SUBJECT: CAUSE (HINT)`, no traceback.

    subject: the file, option or part concerned. cause: what is wrong. hint: what to do about it.
    """

    exit_code = 1

    def __init__(self, subject: object, cause: str, hint: str = "") -> None:
        self.subject = str(subject)
        self.cause = cause
        self.hint = hint
        super().__init__(subject, cause, hint)

    def __str__(self) -> str:
        line = f"{self.subject}: {self.cause}" + (f" ({self.hint})" if self.hint else "")
        return " ".join(line.splitlines())


class UsageError(FoveateError):
    """A wrong option, configuration key or value."""

    exit_code = 2


class DataError(FoveateError):
    """An input video, list or label that cannot be used."""

    exit_code = 3


class ModelFileError(FoveateError):
    """A model file that is missing, damaged, unsafe to load or made for another model."""

    exit_code = 4


class OutputError(FoveateError):
    """An output file or folder that cannot be written."""

    exit_code = 5
