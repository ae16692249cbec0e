"""Model files in repositories of the Hugging Face Hub, by huggingface-hub (the extra `hub`).

A repository of ours holds `model.safetensors`, a file that `save_model` has written, and `README.md`, its
card. It is named hf:user/name, or hf:user/name@revision; timm's hf-hub: and hf_hub: mean the same. The server
is $HF_ENDPOINT, by default huggingface.co. Downloads are kept in `$FOVEATE_CACHE`, below `hub`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foveate.errors import ModelFileError, OutputError, UsageError
from foveate.weights.fetch import cache_folder
from foveate.weights.file import read_card

log = logging.getLogger(__name__)

FILE, CARD = "model.safetensors", "README.md"
PREFIX = re.compile(r"^(hf|hf-hub|hf_hub):")
SIGNED = "<!-- written by foveate push -->"  # a card that has lost this line is somebody's own
SIGN_IN = "set HF_TOKEN, or call `hf auth login`"


def is_hub_name(name: str) -> bool:
    """Whether this names a model of the Hub: hf:user/name."""
    return bool(PREFIX.match(name))


def pull(name: str) -> Path:
    """The local copy of a model of the Hub, which is downloaded if there is a newer one.

    name: hf:user/name, or hf:user/name@revision (a branch, a tag, a commit). Without a network the last copy
    is taken. UsageError for a name that can be none, ModelFileError if there is no such model or it is
    refused, OutputError if it cannot be written.
    """
    hub = _library()
    repository, _, revision = PREFIX.sub("", name).partition("@")
    folder = cache_folder() / "hub"
    with _explained(name, ModelFileError):
        path = Path(
            hub.hf_hub_download(
                repository,
                FILE,
                revision=revision or None,
                cache_dir=folder,
                endpoint=_endpoint(None),
                library_name="foveate",
            )
        )
    _check(path, name)
    return path


def _check(path: Path, name: str) -> None:
    """ModelFileError for what is not what the server has announced, or not a file of ours."""
    stored = path.resolve()  # under the SHA-256 of its content, where the server keeps large files by it
    if re.fullmatch(r"[0-9a-f]{64}", stored.name):
        with stored.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != stored.name:
            stored.unlink()
            raise ModelFileError(name, "was damaged on its way, or has changed since", "run it again")
    try:
        read_card(path)
    except ModelFileError as error:
        raise ModelFileError(name, f"{FILE}: {error.cause}", error.hint) from error


def push(
    path: Path,
    repository: str,
    card: str,
    private: bool = False,
    revision: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a model file and its card into a repository, which is made if there is none; the commit's address.

    card: Markdown; one that somebody else wrote is kept. revision: a branch, made if there is none.
    UsageError without a token, OutputError where the server refuses or cannot be reached.
    """
    hub, repository = _library(), PREFIX.sub("", repository)
    if not hub.get_token():
        raise UsageError("push", "no token of the Hub is known", SIGN_IN)
    api = hub.HfApi(endpoint=_endpoint(endpoint), library_name="foveate")
    with _explained(repository, OutputError):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repository, branch=revision, exist_ok=True)
        files: dict[str, Path | bytes] = {FILE: path}
        if _is_free(api, repository, revision):
            files[CARD] = f"{card}\n{SIGNED}\n".encode()
        else:
            log.warning("%s: its README.md is kept, as foveate did not write it", repository)
        commit = api.create_commit(
            repository,
            [hub.CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="foveate push",
            revision=revision,
        )
    return str(commit.commit_url)


def _is_free(api: Any, repository: str, revision: str | None) -> bool:
    """Whether the repository has no card, or one that was written here."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = api.hf_hub_download(repository, CARD, revision=revision, cache_dir=cache_folder() / "hub")
    except EntryNotFoundError:
        return True
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return SIGNED in text or not text.strip()


def _endpoint(given: str | None) -> str | None:
    """The address of the server; None for the library's own."""
    return (given or os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        hint = "pip install 'foveate[hub]'"
        raise UsageError("hub", "models of the Hub need huggingface-hub", hint) from error
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    return huggingface_hub


@contextmanager
def _explained(name: str, kind: type[ModelFileError | OutputError]) -> Iterator[None]:
    """Errors of the library, which take several lines, in one. kind: that of what went wrong out there."""
    from huggingface_hub import errors

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own calls, and what an error says again
            yield
    except errors.HFValidationError as error:
        raise UsageError(name, "is no name of a repository", "such as hf:user/name") from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, errors.EntryNotFoundError) as error:
        raise kind(name, *_reason(error)) from error
    except RuntimeError as error:  # of an upload, around the error that it met
        cause = error.__cause__ or error
        if isinstance(cause, errors.HTTPError):
            raise kind(name, *_reason(cause)) from error
        raise kind(name, f"was not transferred: {_first_line(cause)}", "run it again") from error
    except OSError as error:
        if error.errno is None:  # the library's own: what arrived is not what was announced
            raise kind(name, f"was not transferred: {_first_line(error)}", "run it again") from error
        place = error.filename or cache_folder()
        raise OutputError(
            place, (error.strerror or str(error)).lower(), "make room, or set FOVEATE_CACHE"
        ) from error


def _reason(error: BaseException) -> tuple[str, str]:
    """Cause and advice for an error of the server, or of the way to it."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(
        error.__cause__, errors.HfHubHTTPError
    ):
        error = error.__cause__
    known: tuple[tuple[Any, str, str], ...] = (
        (errors.GatedRepoError, "asks for consent first", f"give it on its page, then {SIGN_IN}"),
        (errors.RevisionNotFoundError, "has no such revision", "is its name right?"),
        (errors.LocalEntryNotFoundError, "cannot be reached, and no copy is here", "offline?"),
        (errors.EntryNotFoundError, f"holds no {FILE}", "is it a model of Foveate?"),
        (errors.RepositoryNotFoundError, "no such repository, or a private one", f"if private, {SIGN_IN}"),
    )
    for kind, cause, hint in known:
        if isinstance(error, kind):
            return cause, hint
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    if status in (401, 403):
        return f"the server refuses it ({status})", f"is the token valid, and may it do that? {SIGN_IN}"
    if status is not None:
        return f"the server says {status}", "try again later"
    return f"cannot be reached: {_first_line(error)}", "offline?"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
