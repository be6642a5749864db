"""All stages in the process of the test: what Snakemake and new processes do not matter for.

A run of the workflow loads PyTorch in every job, which takes longer than all else on tiny clips.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch

from pvio.cli import main
from pvio.pipeline.publishing.publisher import Publisher

PLANNED = ("--parts", "work/shards", "--out", "work/plan.json")
# Settings for `check`, and their defaults.
POLICIES = (("damaged", "mark"), ("failed", "fail"))


def one_by_one(
    work: Any, tasks: Iterable[int], progress: Any, *_unused: object, **_more: object
) -> Iterator[Any]:
    """Stands for `run_supervised`, without a child process."""
    for task in list(tasks):
        yield work(task, False, progress)


class CallsHere:
    """Stands for a `WorkerPool`: calls functions in this process, where errors can be raised."""

    def __init__(self, *_: object):
        pass

    def __enter__(self) -> CallsHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
        return function(*arguments)


class PublishingHere(Publisher):
    """Stands for `PublishingProcess`, without a child process."""

    def __init__(self, part: Any, settings: Any, fingerprint: str, results: str | None):
        super().__init__(part, settings, fingerprint, results or "")
        self._is_wanted = results is not None and bool(part.made_with)

        self._published: list[int] = []

    def publish(self, number: int) -> bool:
        is_published = self._is_wanted and super().publish(number)
        self._published += [number] if is_published else []
        return is_published

    def published(self) -> list[int]:
        found, self._published = self._published, []
        return found

    def wait(self) -> None:
        pass

    def __enter__(self) -> PublishingHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass


# What computes in the process of the test, by what it stands for.
HERE = {
    "pvio.pipeline.jobs.shard.run_supervised": one_by_one,
    "pvio.pipeline.stages.infer.PublishingProcess": PublishingHere,
    "pvio.pipeline.stages.encode.PublishingProcess": PublishingHere,
}


def run_stages(folder: Path, shards: int = 1, **config: Any) -> subprocess.CompletedProcess[str]:
    """Call the commands of the workflow's rules one after the other, until one fails.

    Args:
        folder: to work in; the files between stages and the logs are where the workflow has them.
        shards: infer and encode jobs.
        config: settings.

    Returns:
        The exit code, and as standard output what the commands printed and logged.
    """
    names = [f"{k}-of-{shards}" for k in range(1, shards + 1)]
    overlay = config.get("output", {}).get("video", "overlay") == "overlay"
    receipts = [f"work/infer/{name}.json" for name in names]
    steps: list[tuple[str, list[str]]] = [
        ("probe", ["--out", "work/probe.json"]),
        ("plan", ["--probe", "work/probe.json", "--shards", str(shards), *PLANNED]),
    ]
    steps += [(f"infer/{name}", _shard("infer", name)) for name in names]
    steps += [("inferred", ["--out", "work/inferred", *receipts])]
    if overlay:
        more = ["--inferred", "work/inferred"]
        steps += [(f"encode/{name}", [*_shard("encode", name), *more]) for name in names]
        receipts += [f"work/encode/{name}.json" for name in names]
    steps += [("assemble", ["--plan", "work/plan.json", *receipts])]
    policies = [f"--on-{what}={config.get(f'on_{what}', default)}" for what, default in POLICIES]
    summary = f"{config.get('results', 'results')}/summary.tsv"
    steps += [("check", [summary, *policies])]
    text = ""
    with _undone(folder):
        Path("work").mkdir(exist_ok=True)
        for name, options in steps:
            command = name.partition("/")[0]
            if command not in ("inferred", "check"):
                options = ["--config", json.dumps(config), *options]
            failed, printed = _call(command, options)
            log = Path(f"logs/{name}.log")
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(printed, encoding="utf-8", errors="surrogateescape")
            text += printed
            if failed:
                break
    return subprocess.CompletedProcess([], int(failed), text, "")


def _shard(stage: str, name: str) -> list[str]:
    part = f"work/shards/{stage}/{name}.json"
    return ["--plan", part, "--shard", name, "--out", f"work/{stage}/{name}.json"]


def _call(command: str, options: list[str]) -> tuple[bool, str]:
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            main.main([command, *options], standalone_mode=False)
        except click.ClickException as error:
            error.show(printed)
            return True, printed.getvalue()
    return False, printed.getvalue()


@contextlib.contextmanager
def _undone(folder: Path) -> Iterator[None]:
    """In a folder; what the commands change of the process is undone."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    hook, path, threads = sys.excepthook, sys.path[:], torch.get_num_threads()
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(mock.patch.dict(os.environ))
        for name, stand_in in HERE.items():
            stack.enter_context(mock.patch(name, stand_in))
        try:
            yield
        finally:
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)
            sys.excepthook, sys.path[:] = hook, path
            torch.set_num_threads(threads)
            signal.signal(signal.SIGTERM, before)
