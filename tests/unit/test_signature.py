"""Arguments of models are checked by their source alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pvio.config.settings import parse_settings
from pvio.errors import ConfigError, ModelError
from pvio.models.loading import load_model
from pvio.models.signature import check_arguments

FILES = {
    "models.py": """
import functools
import torch
import torch.nn as nn
from abc import ABC
from dataclasses import dataclass

import base
import package.inner
from base import Base as Renamed
from package import Exported

class Model:
    def __call__(self, frames): ...

class Plain(Model):
    def __init__(self, a, b=2, *, c=3): ...

class Open(Model):
    def __init__(self, a, **more): ...

class Bare(nn.Module):
    def forward(self, frames): ...

class Child(Plain): ...
class Abstract(ABC, Plain): ...
class OfModule(base.Base): ...
class OfName(Renamed): ...
class OfPackage(package.inner.Deep): ...
class Linear(nn.Linear): ...

@dataclass
class Fields(Model):
    a: int = 1

class Made(Model):
    def __new__(cls, a): return super().__new__(cls)

def function(frames, scale=1.0): ...
def factory(n, *, m): return Plain(n)
def by_place(frames, a=1, /, b=1): ...

@functools.wraps(function)
def decorated(*args, **more): ...

if torch.cuda.is_available():
    class Either(Model):
        def __init__(self, a): ...
else:
    class Either(Model):
        def __init__(self, a=1, b=1): ...

ready = Plain(1)
""",
    "base.py": "class Base:\n    def __init__(self, alpha=1): ...\n"
    "    def __call__(self, frames): ...\n",
    "package/__init__.py": "from .inner import Deep as Exported\n",
    "package/inner.py": "from . import other\nclass Deep(other.Root): ...\n",
    "package/other.py": "class Root:\n    def __init__(self, omega): ...\n"
    "    def __call__(self, frames): ...\n",
}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = [
    ("Plain", {}, "models.py:Plain also needs a"),
    ("Plain", {"a": 1, "bb": 1}, "does not take 'bb'; did you mean 'b'? It takes a, b, c"),
    ("Open", {"z": 1}, "also needs a"),
    ("Bare", {"a": 1}, "does not take 'a'; it takes no arguments"),
    ("Child", {"a": 1, "d": 1}, "does not take 'd'; "),
    ("Abstract", {"a": 1, "x": 1}, "does not take 'x'; it takes a, b, c"),
    ("Renamed", {"alhpa": 1}, "did you mean 'alpha'?"),
    ("OfModule", {"alhpa": 1}, "did you mean 'alpha'?"),
    ("OfName", {"alhpa": 1}, "did you mean 'alpha'?"),
    ("OfPackage", {"omeg": 1}, "did you mean 'omega'?"),
    ("Exported", {}, "also needs omega"),
    ("Made", {"b": 1}, "does not take 'b'; it takes a"),
    ("function", {"scal": 1}, "did you mean 'scale'?"),
    ("factory", {"n": 1}, "also needs m"),
    ("by_place", {"a": 1}, "does not take 'a'; it takes b"),
]
RIGHT = [
    ("Plain", {"a": 1, "c": 2}),
    ("Open", {"a": 1, "z": 1}),
    ("Bare", {}),
    ("OfPackage", {"omega": 1}),
    ("function", {"scale": 2.0}),
    ("function", {}),
    ("factory", {"n": 1, "m": 1}),
    ("by_place", {"b": 1}),
    ("Fields", {"a": 2}),
    ("Either", {"b": 1}),
    ("Linear", {"in_features": 1, "out_features": 1}),
]
# Only running the code shows it.
HIDDEN = [
    ("Fields", {"q": 1}), ("Either", {"q": 1}), ("Linear", {"q": 1}), ("ready", {"q": 1}),
]  # fmt: skip


def check(entry: str, args: dict[str, Any]) -> None:
    check_arguments(parse_settings({"model": {"entry": entry, "args": args}}).model)


@pytest.mark.parametrize(("name", "args", "text"), WRONG)
def test_what_a_model_does_not_take_is_found(
    models: Path, name: str, args: dict[str, Any], text: str
):
    with pytest.raises(ConfigError) as caught:
        check(f"models.py:{name}", args)
    assert text in str(caught.value)


@pytest.mark.parametrize(("name", "args"), RIGHT + HIDDEN)
def test_no_model_is_refused_that_may_be_right(models: Path, name: str, args: dict[str, Any]):
    check(f"models.py:{name}", args)


@pytest.mark.parametrize(
    ("name", "args", "works"),
    [
        *((name, args, False) for name, args, _ in WRONG if name not in ("package",)),
        *((name, args, True) for name, args in RIGHT),
    ],
)
def test_loading_says_the_same(models: Path, name: str, args: dict[str, Any], works: bool):
    settings = parse_settings({"model": {"entry": f"models.py:{name}", "args": args}}).model
    if works:
        load_model(settings, torch.device("cpu"))
    else:
        with pytest.raises(ModelError):
            load_model(settings, torch.device("cpu"))


def test_the_built_in_tracker_is_checked():
    with pytest.raises(ConfigError, match=r"does not take 'n_animal'; did you mean 'n_animals'\?"):
        check("pvio.models:OpenFieldTracker", {"n_animal": 1})
    check("pvio.models:OpenFieldTracker", {"n_animals": 1, "background": "none"})


def test_a_compiled_program_takes_no_arguments(models: Path):
    (models / "net.pt2").touch()
    with pytest.raises(ConfigError, match="takes no arguments"):
        check("net.pt2", {"a": 1})
    check("net.pt2", {})
