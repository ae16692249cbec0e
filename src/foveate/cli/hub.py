"""The verb that shares a model on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import tyro

from foveate.cli.show import print_json, print_line


def push(
    file: tyro.conf.Positional[Path],
    repository: tyro.conf.Positional[str],
    private: bool = False,
    revision: str | None = None,
    license: str = "unknown",
    hub: str | None = None,
    json: bool = False,
) -> int:
    """Put a model file into a repository of the Hugging Face Hub, with a card written from the file.

    It is then a model for every verb: foveate predict VIDEO --model hf:user/name. The token is HF_TOKEN or
    that of `hf auth login`.

    Args:
        file: A model file, such as best.safetensors of a run.
        repository: user/name; it is made if there is none.
        private: Make it one that others do not see.
        revision: The branch to write to, made if there is none; main if not given.
        license: What the card says, by its short name on the Hub, such as apache-2.0.
        hub: Address of another server that speaks as the Hub does; HF_ENDPOINT, or huggingface.co.
        json: Print one JSON object.
    """
    from foveate.report.model_card import model_card
    from foveate.weights.hub import PREFIX
    from foveate.weights.hub import push as upload

    name = PREFIX.sub("", repository)
    address = upload(file, name, model_card(file, name, license), private, revision, hub)
    if json:
        print_json({"model": f"hf:{name}", "file": str(file), "commit": address})
    else:
        print_line(f"{address}: {file} is hf:{name}{f'@{revision}' if revision else ''}")
    return 0
