"""Configurations that cannot be: refused with file, key and nearest valid name, before any work."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foveate.cli import main

Content = str | bytes | Callable[[Path], object]
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

BAD: dict[str, tuple[Content, str]] = {
    "unknown key": ("modle: tsm_r10_8", r"unknown key 'modle' \(did you mean model\?\)"),
    "unknown inner key": ("train: {epoch: 3}", r"train: unknown key 'epoch' \(did you mean epochs"),
    "key of another recipe": ("plan: {joint_rate: 1}", "plan: unknown key 'joint_rate'"),
    "key of a number": ("7: x", "unknown key 7"),
    "key of a list": ("? [a, b]\n: x", "not readable as YAML"),
    "key of 100 kB": (f"{'k' * 100_000}: x", r"unknown key 'kkk|not readable as YAML"),
    "unknown model": ("model: tsm_r10_9", "did you mean tsm_r10_8"),
    "unknown recipe": ("recipe: smal", "did you mean small"),
    "unknown choice": (
        "train: {optimizer: sdg}",
        r"train: optimizer: 'sdg' is not allowed \(did you mean sgd",
    ),
    "choice of a list": ("train: {optimizer: [sgd]}", r"train: optimizer: \['sgd'\] is not allowed"),
    "text for a number": ("train: {rate: fast}", "train: rate: expected float, got 'fast'"),
    "truth for a number": ("train: {epochs: true}", "train: epochs: expected int, got True"),
    "fraction for a whole number": ("train: {epochs: 1.5}", "train: epochs: expected int, got 1.5"),
    "number for truth": ("train: {nesterov: 1}", "train: nesterov: expected bool, got 1"),
    "date for a number": ("train: {rate: 2026-11-28}", "train: rate: expected float, got datetime"),
    "nothing for a number": ("train: {rate: null}", "train: rate: expected float, got None"),
    "not a number": ("train: {rate: .nan}", "train: rate: nan is not a finite number"),
    "infinite": ("train: {rate: .inf}", "train: rate: inf is not a finite number"),
    "infinite in words": ("train: {rate: 1e999}", "train: rate: inf is not a finite number"),
    "negative rate": ("train: {rate: -0.1}", "train: rate is -0.1; it must be above 0"),
    "no batch": ("train: {batch: 0}", "train: batch is 0; it must be at least 1"),
    "integer of 5000 digits": (f"train: {{epochs: {'9' * 5000}}}", "not readable as YAML: .*digits"),
    "integer of 100,000 bits": (
        f"train: {{rate: 0x{'f' * 25_000}}}",
        "train: rate: .* is not a finite number",
    ),
    "list for a mapping": ("train: [epochs, 3]", "train: expected keys and values, got list"),
    "mapping for a list": ("settings: {frames: 2}", "settings: expected a list"),
    "number for an old group": ("focus: 3", "focus: expected keys and values"),
    "list at the top": ("- model\n- x", "is not a mapping"),
    "two values for one": ("train: {betas: [0.9, 0.99, 0.999]}", "train: betas: expected 2 values"),
    "empty": ("", "is not a mapping"),
    "a word": ("word", "is not a mapping"),
    "duplicate key": ("model: tsm_r10_8\nmodel: tsm_r50_8", "duplicate key 'model'"),
    "duplicate inner key": ("train: {batch: 1, batch: 2}", "duplicate key 'batch'"),
    "billion laughs": (LAUGHS, "aliases are not allowed"),
    "alias of itself": ("train: &t\n  rate: *t", "aliases are not allowed"),
    "merged alias": ("x: &x {batch: 1}\ntrain:\n  <<: *x", "aliases are not allowed"),
    "object": ("model: !!python/object/apply:os.system ['touch ran']", "not readable as YAML.*python/object"),
    "name of a class": ("model: !!python/name:os.system", "not readable as YAML.*python/name"),
    "unknown tag": ("model: !secret x", "not readable as YAML.*!secret"),
    "deep": ("train: " + "[" * 20_000, "nests too deep"),
    "deep mapping": ("train: " + "{a: " * 20_000, "nests too deep"),
    "tabs": ("train:\n\tbatch: 2", "not readable as YAML"),
    "no end": ("train: {batch: 2", "not readable as YAML"),
    "two documents": ("model: tsm_r10_8\n---\nmodel: tsm_r50_8", "not readable as YAML"),
    "wrong date": ("model: 2026-99-99", "not readable as YAML"),
    "NUL": ("model: a\0b", "not readable as YAML"),
    "binary": (bytes(range(256)), "not readable as YAML"),
    "UTF-16": ("model: tsm_r10_8".encode("utf-16"), "not readable as YAML"),
    "a model file": (b"\x10\0\0\0\0\0\0\0{}" + bytes(1000), "not readable as YAML"),
    "ten megabytes": (b"# nothing\n" * 1_000_000, "longer than 128 kB"),
    "12,000 keys": ("\n".join(f"k{i}: 1" for i in range(12_000)), "unknown key 'k0'"),
    "a folder": (Path.mkdir, "directory"),
    "a named pipe": (os.mkfifo, "not a regular file"),
    "nothing there": (lambda path: None, "No such file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_configuration_that_cannot_be_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, words = BAD[kind]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    start = time.process_time()
    with pytest.raises(SystemExit) as left:
        main(["train", "--config", str(path), "--videos", "none.csv", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert re.search(words, said) and said.count("\n") == 1 and len(said) < 1000, said
    assert "c.yaml" in said or kind.startswith("unknown")
    assert time.process_time() - start < 5
    assert {found.name for found in tmp_path.iterdir()} <= {"c.yaml"}
