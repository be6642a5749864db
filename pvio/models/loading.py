"""Loading models. A model file is code: load only what you trust."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pvio.config.model import ModelSettings
from pvio.errors import ModelError
from pvio.models.entry import ModelEntry, resolve_entry, search_path
from pvio.models.gpu_lock import acquire_gpu, gpu_lock_dir


def resolve_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Without a number it is a CUDA device that no other job holds, see `acquire_cuda_device`.

    Raises:
        ModelError: when a CUDA device is asked for and there is none of that number.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"model.device: {wanted} is not there ({torch.cuda.device_count()} CUDA device(s) "
            "visible); use device: auto or cpu, or run `pvio doctor`"
        )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", acquire_cuda_device())
    return device


@functools.cache
def acquire_cuda_device() -> int:
    """The number of a visible CUDA device that this process takes until it ends, by `acquire_gpu`.

    Asked again, it is the same one: a job tries to load its model again for each segment. Devices
    are known by their UUID, since CUDA_VISIBLE_DEVICES gives them other numbers.
    """
    numbers = range(torch.cuda.device_count())
    identities = [
        str(getattr(torch.cuda.get_device_properties(number), "uuid", number)) for number in numbers
    ]
    return acquire_gpu(identities, gpu_lock_dir())


def load_model(settings: ModelSettings, device: torch.device) -> Callable[..., Any]:
    """Load the model of the settings, ready for inference on the device.

    Returns:
        The callable; a `torch.nn.Module` is in eval mode, on the device, without gradients.

    Raises:
        ConfigError: when the entry does not exist.
        ModelError: when it cannot be loaded, built with `args`, or take the weights.
    """
    entry = resolve_entry(settings.entry)
    model: Callable[..., Any]
    if entry.kind != "exported":
        model = _build(_load_attribute(entry), settings)
    elif settings.args:
        raise ModelError(f"model.args: {entry.path} is an exported program and takes no arguments")
    else:
        model = _load_exported(entry.path, device)
    if settings.weights is not None:
        _load_weights(model, settings.weights)
    if isinstance(model, torch.nn.Module):
        if entry.kind != "exported":
            model.eval()
        model.to(device)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    return model


def _load_exported(path: Path, device: torch.device) -> torch.nn.Module:
    try:
        if path.suffix == ".pt2":
            exported: torch.nn.Module = torch.export.load(str(path)).module()
            return exported
        scripted: torch.nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
            str(path), map_location=device
        )
        return scripted.eval()
    except Exception as error:
        raise ModelError(
            f"model.entry: {path} is not a "
            f"{'torch.export' if path.suffix == '.pt2' else 'TorchScript'} file: {error}\n"
            "A file of weights alone (a state_dict) belongs in model.weights, with the class "
            "that takes them in model.entry"
        ) from error


def _load_attribute(entry: ModelEntry) -> Any:
    for folder in reversed(search_path()):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        if entry.kind == "module":
            value: Any = importlib.import_module(entry.module)
        else:
            value = _import_file(entry.path)
    except Exception as error:
        raise ModelError(f"model.entry: importing {entry.path} failed: {error!r}") from error
    for part in entry.name.split("."):
        if not hasattr(value, part):
            names = [name for name in vars(value) if not name.startswith("_")]
            raise ModelError(
                f"model.entry: {entry.path} has no {entry.name!r}; it has: {', '.join(names)}"
            )
        value = getattr(value, part)
    return value


def _import_file(path: Path) -> Any:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"pvio_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _build(value: Any, settings: ModelSettings) -> Callable[..., Any]:
    """A class or factory is called with `args`; a function of the frames is the model itself."""
    entry, args = settings.entry, settings.args
    if inspect.isclass(value) or (inspect.isroutine(value) and _n_required(value, args) == 0):
        try:
            model = value(**args)
        except Exception as error:
            raise ModelError(
                f"model.entry: {entry} could not be built with args {args}: {error}"
            ) from error
    elif inspect.isroutine(value):
        try:
            inspect.signature(value).bind_partial(**args)
        except TypeError as error:
            raise ModelError(f"model.args: {entry} does not take {args}: {error}") from error
        model = functools.partial(value, **args) if args else value
    elif args:
        raise ModelError(f"model.args: {entry} is a ready object and takes no arguments")
    else:
        model = value
    if not callable(model):
        raise ModelError(
            f"model.entry: {entry} gives a {type(model).__name__}, which cannot be called"
        )
    callable_model: Callable[..., Any] = model
    return callable_model


def _n_required(function: Callable[..., Any], args: dict[str, Any]) -> int:
    empty = inspect.Parameter.empty
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        parameter.kind in kinds and parameter.default is empty and parameter.name not in args
        for parameter in inspect.signature(function).parameters.values()
    )


def _load_weights(model: Any, path: str) -> None:
    if not isinstance(model, torch.nn.Module):
        raise ModelError("model.weights: only a torch.nn.Module takes weights")
    try:
        state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"model.weights: {path} holds no plain state_dict (it is read with weights_only=True, "
            f"which runs no code): {error}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    try:
        model.load_state_dict(state)
    except Exception as error:
        raise ModelError(
            f"model.weights: {path} does not fit {type(model).__name__}: {error}"
        ) from error
