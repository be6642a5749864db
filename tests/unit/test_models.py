"""Models: every form of entry loads, errors say what to do, fingerprints follow the code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pvio.config.model import ModelSettings
from pvio.errors import ConfigError, ModelError
from pvio.models.entry import model_fingerprint
from pvio.models.loading import load_model, resolve_device

# TorchScript is deprecated, and still what many labs have.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

CPU = torch.device("cpu")
CODE = """
import functools
import torch

class Scale(torch.nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(float(factor)))
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, frames):
        return self.drop(frames.mean((1, 2, 3)) * self.factor)

class Plain:
    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, frames):
        return frames.mean((1, 2, 3)) * self.factor

class Broken:
    def __init__(self):
        raise RuntimeError("no licence")

class Mute:
    pass

def function(frames, factor=1.0):
    return frames.mean((1, 2, 3)) * factor

def factory(factor=1.0):
    return Plain(factor)

def needy_factory(*, factor):
    return Plain(factor)

def not_a_model():
    return 7

instance = Plain(3.0)

class Zoo:
    Inner = Plain
"""
FRAMES = torch.full((2, 1, 4, 4), 0.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a file of models; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "zoo.py").write_text(CODE)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def load(entry: str, **settings: Any) -> Any:
    return load_model(ModelSettings(entry=entry, **settings), CPU)


@pytest.mark.parametrize(
    ("name", "args", "factor"),
    [
        ("Scale", {}, 1),
        ("Scale", {"factor": 2}, 2),
        ("Plain", {"factor": 2}, 2),
        ("function", {}, 1),
        ("function", {"factor": 2}, 2),
        ("factory", {}, 1),
        ("factory", {"factor": 2}, 2),
        ("needy_factory", {"factor": 2}, 2),
        ("instance", {}, 3),
        ("Zoo.Inner", {"factor": 2}, 2),
    ],
)
@pytest.mark.parametrize("where", ["zoo.py", "zoo", "{folder}/zoo.py"])
def test_python_entries_load(
    folder: Path, where: str, name: str, args: dict[str, Any], factor: float
):
    model = load(f"{where.format(folder=folder)}:{name}", args=args)
    assert model(FRAMES).tolist() == [0.5 * factor] * 2


def test_a_module_inside_a_package_loads(folder: Path):
    (folder / "lab" / "nets").mkdir(parents=True)
    (folder / "lab" / "__init__.py").touch()
    (folder / "lab" / "nets" / "__init__.py").touch()
    (folder / "lab" / "nets" / "zoo.py").write_text(CODE)
    assert load("lab.nets.zoo:Plain")(FRAMES).tolist() == [0.5, 0.5]


def test_a_file_imports_its_neighbours(folder: Path):
    (folder / "models").mkdir()
    (folder / "models" / "helper_of_mine.py").write_text("VALUE = 4")
    (folder / "models" / "mine.py").write_text(
        "from helper_of_mine import VALUE\ndef model(frames):\n    return frames.sum() * VALUE\n"
    )
    assert load("models/mine.py:model")(torch.ones(1)) == 4


def test_the_default_model_loads():
    assert callable(load_model(ModelSettings(), CPU))


def test_modules_are_in_eval_mode_without_gradients(folder: Path):
    model = load("zoo.py:Scale")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_torchscript_file_loads(folder: Path):
    torch.jit.trace(torch.nn.Flatten(), FRAMES).save("flat.pt")
    assert load("flat.pt")(FRAMES).shape == (2, 16)


def test_a_torch_export_file_loads(folder: Path):
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(torch.nn.Flatten(), (FRAMES,), dynamic_shapes=({0: batch},))
    torch.export.save(program, "flat.pt2")
    assert load("flat.pt2")(torch.zeros(5, 1, 4, 4)).shape == (5, 16)


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_are_loaded(folder: Path, wrapped: bool):
    state: dict[str, Any] = {"factor": torch.tensor(6.0)}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, "weights.pth")
    assert load("zoo.py:Scale", weights="weights.pth")(FRAMES).tolist() == [3.0, 3.0]


def error_of(entry: str, **settings: Any) -> str:
    with pytest.raises((ConfigError, ModelError)) as caught:
        load(entry, **settings)
    return str(caught.value)


def test_weights_that_do_not_fit_are_named(folder: Path):
    torch.save({"other": torch.tensor(1.0)}, "weights.pth")
    message = error_of("zoo.py:Scale", weights="weights.pth")
    assert "weights.pth does not fit Scale" in message
    assert "other" in message


def test_weights_never_run_code(folder: Path):
    code = "import os, torch\nclass Evil:\n    def __reduce__(self): return (os.mkdir, ('ran',))\n"
    subprocess.run([sys.executable, "-c", code + "torch.save(Evil(), 'w.pth')"], check=True)
    assert "weights_only" in error_of("zoo.py:Scale", weights="w.pth")
    assert not Path("ran").exists()


def test_weights_of_something_without_parameters_are_an_error(folder: Path):
    torch.save({}, "weights.pth")
    assert "torch.nn.Module" in error_of("zoo.py:function", weights="weights.pth")


@pytest.mark.parametrize(
    ("entry", "settings", "words"),
    [
        ("zoo.py:Nothing", {}, ("Nothing", "Scale", "factory")),
        ("gone.py:Model", {}, ("gone.py", "no file")),
        ("no_such_module_here:Model", {}, ("no_such_module_here", "no module")),
        ("gone.pt", {}, ("gone.pt", "no file")),
        ("zoo.py:Broken", {}, ("zoo.py:Broken", "no licence")),
        ("zoo.py:Plain", {"args": {"fctor": 1}}, ("fctor", "Plain")),
        ("zoo.py:function", {"args": {"fctor": 1}}, ("fctor", "function")),
        ("zoo.py:Mute", {}, ("Mute", "cannot be called")),
        ("zoo.py:not_a_model", {}, ("int", "cannot be called")),
        ("zoo.py:instance", {"args": {"factor": 1}}, ("model.args", "instance")),
        ("broken.py:Model", {}, ("broken.py", "SyntaxError")),
        ("text.pt", {}, ("text.pt", "TorchScript", "model.weights")),
        ("text.pt2", {}, ("text.pt2", "torch.export")),
        ("zoo.py:Scale", {"weights": "gone.pth"}, ("gone.pth",)),
    ],
)
def test_an_error_says_what_is_wrong(
    folder: Path, entry: str, settings: dict[str, Any], words: tuple[str, ...]
):
    (folder / "broken.py").write_text("def (:\n")
    for name in ("text.pt", "text.pt2"):
        (folder / name).write_text("no program")
    message = error_of(entry, **settings)
    assert all(word in message for word in words), message


def test_only_what_may_be_a_model_is_listed(folder: Path):
    (folder / "listed.py").write_text(
        "import os\nfrom math import sqrt\nN = 3\nmodel = None\n"
        "class Net:\n    def forward(self): x = 1\n"
        "if N:\n    def build(): return Net()\n"
    )
    assert error_of("listed.py:Zzz").endswith("defines no 'Zzz'; it defines Net, build")
    assert error_of("listed.py:foward").endswith("it defines Net, build")
    assert error_of("listed.py:modle").endswith("did you mean 'model'?")
    (folder / "listed.py").write_text("import os\n")
    assert error_of("listed.py:Zzz").endswith("it has no class and no function")


def test_a_state_dict_as_entry_is_sent_to_the_weights(folder: Path):
    torch.save({"factor": torch.tensor(1.0)}, "weights.pt")
    assert "model.weights" in error_of("weights.pt")


def test_a_cuda_device_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="cuda:99"):
        resolve_device("cuda:99")


def fingerprint(entry: str = "zoo.py:Plain", *, quick: bool = False, **settings: Any) -> str:
    return model_fingerprint(ModelSettings(entry=entry, **settings), quick=quick)


def test_the_fingerprint_stays_when_nothing_changes(folder: Path):
    assert fingerprint() == fingerprint()


def test_the_fingerprint_follows_code_name_and_args(folder: Path):
    values = {
        fingerprint(),
        fingerprint(args={"factor": 2}),
        fingerprint("zoo.py:Scale"),
        (folder / "zoo.py").write_text(CODE + "# more\n") and fingerprint(),
    }
    assert len(values) == 4


def test_the_fingerprint_is_the_same_wherever_the_code_lies(folder: Path):
    (folder / "copy").mkdir()
    (folder / "copy" / "zoo.py").write_text(CODE)
    os.utime(folder / "copy" / "zoo.py", ns=(0, 10**18))
    assert fingerprint() == fingerprint("copy/zoo.py:Plain")


def test_the_fingerprint_leaves_files_that_are_not_imported(folder: Path):
    before = fingerprint()
    (folder / "other.py").write_text("x = 1")
    (folder / "data.csv").write_text("1")
    assert fingerprint() == before


@pytest.mark.parametrize(
    "statement",
    [
        "import helper",
        "from helper import x",
        "from sub import deep",
        "from sub.deep import y",
        "import sub.deep as d",
        "def f():\n    from sub import deep",
        "import indirect",
    ],
)
def test_the_fingerprint_follows_imported_neighbours(folder: Path, statement: str):
    (folder / "sub").mkdir()
    (folder / "sub" / "__init__.py").touch()
    helpers = [folder / "helper.py", folder / "sub" / "deep.py"]
    for helper in helpers:
        helper.write_text("x = y = 1")
    (folder / "indirect.py").write_text("import helper")
    (folder / "mine.py").write_text(f"{statement}\ndef model(frames):\n    return frames\n")
    before = fingerprint("mine.py:model")
    for helper in helpers:
        helper.write_text("x = y = 2")
    assert fingerprint("mine.py:model") != before


@pytest.mark.parametrize(
    "statement",
    [
        "from . import deep",
        "from .deep import y",
        "from .. import helper",
        "from ..helper import x",
    ],
)
def test_the_fingerprint_follows_relative_imports(folder: Path, statement: str):
    (folder / "lab" / "nets").mkdir(parents=True)
    for name in ("__init__", "helper", "nets/__init__", "nets/deep"):
        (folder / "lab" / f"{name}.py").write_text("x = y = 1")
    (folder / "lab" / "nets" / "mine.py").write_text(
        f"{statement}\ndef model(frames):\n    return frames\n"
    )
    before = fingerprint("lab.nets.mine:model")
    for name in ("helper", "nets/deep"):
        (folder / "lab" / f"{name}.py").write_text("x = y = 2")
    assert fingerprint("lab.nets.mine:model") != before


def test_the_fingerprint_follows_folders_without_an_init_file(folder: Path):
    # A namespace package: Python imports it all the same.
    (folder / "nets").mkdir()
    (folder / "nets" / "deep.py").write_text("y = 1")
    (folder / "mine.py").write_text("from nets.deep import y\ndef model(f):\n    return f\n")
    before = fingerprint("mine.py:model")
    (folder / "nets" / "deep.py").write_text("y = 2")
    assert fingerprint("mine.py:model") != before


@pytest.mark.parametrize("quick", [False, True])
def test_the_fingerprint_follows_weights_and_programs(folder: Path, quick: bool):
    for name in ("weights.pth", "program.pt"):
        (folder / name).write_bytes(b"1")
    before = (
        fingerprint(weights="weights.pth", quick=quick),
        fingerprint("program.pt", quick=quick),
    )
    for name in ("weights.pth", "program.pt"):
        (folder / name).write_bytes(b"22")
    after = (
        fingerprint(weights="weights.pth", quick=quick),
        fingerprint("program.pt", quick=quick),
    )
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_touched_weights_have_the_same_fingerprint(folder: Path):
    (folder / "weights.pth").write_bytes(b"1")
    before = fingerprint(weights="weights.pth")
    os.utime("weights.pth", ns=(0, 10**18))
    assert fingerprint(weights="weights.pth") == before


def test_absent_weights_are_named(folder: Path):
    with pytest.raises(ConfigError, match=r"gone\.pth"):
        fingerprint(weights="gone.pth")


@pytest.mark.parametrize("entry", ["zoo.py:Scale", "zoo:Scale", "pvio.models:OpenFieldTracker"])
def test_a_fingerprint_is_taken_without_importing_torch(folder: Path, entry: str):
    code = (
        "import sys\nfrom pvio.config.model import ModelSettings\n"
        "from pvio.models.entry import model_fingerprint\n"
        f"print(model_fingerprint(ModelSettings(entry={entry!r})))\n"
        "assert 'torch' not in sys.modules and 'zoo' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder
    )
    assert done.stdout.strip() == fingerprint(entry)
