"""Whether a model takes its arguments, found by reading its source, without running it."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pvio.config.model import ModelSettings
from pvio.errors import ConfigError
from pvio.models.entry import find_module, import_root, module_files, resolve_entry

# Bases that take no arguments, and those that do not matter.
_WITHOUT_ARGUMENTS = ("object", "torch.nn.Module", "torch.nn.modules.module.Module")
_SILENT_BASES = ("abc.ABC", "typing.Protocol", "typing.Generic")
# Longer chains of imports and base classes are left to the jobs.
_MOST_STEPS = 20


@dataclass(frozen=True)
class _Signature:
    """Names that a call may and must give; `is_open` when it takes others, too."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    is_open: bool = False


class _UndecidableError(Exception):
    """The source alone does not show it."""


def check_arguments(settings: ModelSettings) -> None:
    """Check `model.args` against the signature of the entry, where its source shows it.

    What a decorator, a metaclass or a `**kwargs` hides is found when a job builds the model.

    Raises:
        ConfigError: when the entry does not exist, or does not take these arguments.
    """
    entry = resolve_entry(settings.entry)
    if entry.kind == "exported":
        if settings.args:
            raise ConfigError(
                f"model.args: {settings.entry} is an exported program and takes no arguments"
            )
        return
    try:
        signature = _signature_of(entry.path, entry.name, settings.args, _MOST_STEPS)
    except (_UndecidableError, OSError, SyntaxError, ValueError, RecursionError):
        return
    allowed = ", ".join(signature.names) or "no arguments"
    errors = []
    for name in settings.args:
        if name not in signature.names and not signature.is_open:
            near = difflib.get_close_matches(str(name), signature.names, n=1)
            hint = (
                f"did you mean '{near[0]}'? It takes {allowed}" if near else f"it takes {allowed}"
            )
            errors.append(f"{settings.entry} does not take '{name}'; {hint}")
    if missing := [name for name in signature.required if name not in settings.args]:
        errors.append(f"{settings.entry} also needs {', '.join(missing)}")
    if errors:
        raise ConfigError("model.args: " + "; ".join(errors))


def _signature_of(path: Path, name: str, args: Mapping[str, object], steps: int) -> _Signature:
    """The signature of what a file defines or imports under a name."""
    if steps == 0:
        raise _UndecidableError
    node, path = _definition(path, name, steps)
    if node.decorator_list:
        raise _UndecidableError
    if isinstance(node, ast.ClassDef):
        return _signature_of_class(node, path, args, steps)
    found = _parameters(node, skip=0)
    positional = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    if any(name in found.required and name not in args for name in positional):
        return _Signature(found.names, (), found.is_open)  # the model itself: frames come later
    return found


def _signature_of_class(
    node: ast.ClassDef, path: Path, args: Mapping[str, object], steps: int
) -> _Signature:
    if node.keywords:  # a metaclass, or arguments of a base class
        raise _UndecidableError
    own = [each for each in _bound(node.body) if each[0] in ("__init__", "__new__", "__call__")]
    makers = [each for name, each in own if name != "__call__"]
    if makers:
        maker = makers[0]
        if len(makers) > 1 or not isinstance(maker, ast.FunctionDef) or maker.decorator_list:
            raise _UndecidableError
        return _parameters(maker, skip=1)
    names = _imported(path)
    bases = [_full_name(each, names) for each in node.bases]
    bases = [base for base in bases if base not in _SILENT_BASES]
    if not bases or bases[0] in _WITHOUT_ARGUMENTS:
        if len(bases) > 1:
            raise _UndecidableError
        return _Signature()
    if len(bases) > 1:
        raise _UndecidableError
    module, _, name = bases[0].rpartition(".")
    if not module:
        return _signature_of(path, name, args, steps - 1)
    return _signature_of(_file_of(module, path), name, args, steps - 1)


def _parameters(node: ast.FunctionDef, skip: int) -> _Signature:
    """Parameters that can be given by name, but for the first `skip`."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    n_required = len(positional) - len(arguments.defaults)
    names = [each.arg for each in positional[max(skip, len(arguments.posonlyargs)) :]]
    required = [each.arg for each in positional[skip : max(skip, n_required)]]
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        names.append(each.arg)
        if default is None:
            required.append(each.arg)
    is_open = arguments.kwarg is not None
    return _Signature(tuple(names), tuple(required), is_open)


def _definition(path: Path, name: str, steps: int) -> tuple[ast.ClassDef | ast.FunctionDef, Path]:
    """The one statement that defines a name, in a file or where that imports it from."""
    tree = ast.parse(path.read_bytes())
    first, _, rest = name.partition(".")
    found = [each for bound, each in _bound(tree.body) if bound == first]
    if len(found) != 1 or rest or steps == 0:
        raise _UndecidableError
    statement = found[0]
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return statement, path
    if not isinstance(statement, ast.ImportFrom):
        raise _UndecidableError
    original = next(each.name for each in statement.names if (each.asname or each.name) == first)
    module = "." * statement.level + (statement.module or "")
    return _definition(_file_of(module, path), original, steps - 1)


def _bound(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Names that statements bind, in branches as well; not those within functions and classes."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name, statement
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield alias.asname or alias.name.split(".")[0], statement
            case _:
                for node in ast.iter_child_nodes(statement):
                    if isinstance(node, ast.stmt):
                        yield from _bound([node])
                    elif isinstance(node, ast.ExceptHandler):
                        yield from _bound(node.body)
                    else:
                        for inner in ast.walk(node):
                            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                                yield inner.id, statement


def _imported(path: Path) -> dict[str, str]:
    """Full names of what the statements of a file import, by the names it gives them."""
    names: dict[str, str] = {}
    for _, statement in _bound(ast.parse(path.read_bytes()).body):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            for alias in statement.names:
                joint = "" if module.endswith(".") else "."
                names[alias.asname or alias.name] = f"{module}{joint}{alias.name}"
    return names


def _full_name(node: ast.expr, names: Mapping[str, str]) -> str:
    """Dotted name of a base class, with the module it is imported from."""
    if isinstance(node, ast.Subscript):  # Generic[T]
        return _full_name(node.value, names)
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    raise _UndecidableError


def _file_of(module: str, importer: Path) -> Path:
    """The file of a module, as a file imports it."""
    name = module.lstrip(".")
    level = len(module) - len(name)
    if level:
        base = importer.resolve().parents[level - 1]
        files = module_files(name, base) if name else [base / "__init__.py"]
    else:
        files = module_files(name, import_root(importer))
    whole = files and len(files) >= len(name.split("."))
    found = files[-1] if whole else (None if level else find_module(name))
    if found is None or found.suffix != ".py":
        raise _UndecidableError
    return found
