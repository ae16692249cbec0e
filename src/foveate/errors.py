"""Errors that a user can act on: one line that names the file, the cause and what to do."""

from __future__ import annotations


class FoveateError(Exception):
    """An error of the user's world, printed as `error: SUBJECT: CAUSE (HINT)` without a traceback."""

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
    """A model file that is missing, damaged, hostile or of another model."""

    exit_code = 4


class OutputError(FoveateError):
    """A result that cannot be written."""

    exit_code = 5
