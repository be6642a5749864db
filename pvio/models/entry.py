"""The code or file of `model.entry`, found and fingerprinted without importing it."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.machinery
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pvio.cache.digest import hash_key
from pvio.config.model import ENTRY_PATTERN, PROGRAM_SUFFIXES, ModelSettings
from pvio.config.text import to_json
from pvio.errors import ConfigError

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class ModelEntry:
    """A resolved `model.entry`.

    Attributes:
        kind: an importable module, a Python file, or an exported program
            (TorchScript, torch.export).
        path: the file that holds it.
        module: dotted name, for kind "module".
        name: attribute to load, for kinds "module" and "file".
    """

    kind: Literal["module", "file", "exported"]
    path: Path
    module: str = ""
    name: str = ""


def search_path() -> list[str]:
    """The folders with modules of models: the working directory, then Python's own path."""
    return [os.getcwd(), *(entry for entry in sys.path if entry)]


def resolve_entry(entry: str) -> ModelEntry:
    """Find what an entry refers to.

    Raises:
        ConfigError: when there is no such file or module.
    """
    if entry.endswith(PROGRAM_SUFFIXES):
        path = Path(entry).expanduser()
        if not path.is_file():
            raise ConfigError(f"model.entry: there is no file {entry} (seen from {os.getcwd()})")
        return ModelEntry("exported", path)
    match = ENTRY_PATTERN.match(entry)
    if match is None:
        raise ConfigError(f"model.entry: {entry!r} is not of the form module:name or file.py:name")
    where, name = match["where"], match["name"]
    if where.endswith(".py") or "/" in where:
        path = Path(where).expanduser()
        if not path.is_file():
            raise ConfigError(f"model.entry: there is no file {where} (seen from {os.getcwd()})")
        _check_defined(path, name)
        return ModelEntry("file", path, name=name)
    origin = find_module(where)
    if origin is None:
        raise ConfigError(
            f"model.entry: there is no module {where!r}; looked in the working directory "
            f"{os.getcwd()} and in what is installed for {sys.executable}"
        )
    _check_defined(origin, name)
    return ModelEntry("module", origin, module=where, name=name)


def model_fingerprint(settings: ModelSettings, *, quick: bool = False) -> str:
    """Digest of the model's code, weights and arguments.

    Code is the entry's file and every Python file of its own package (or, for a file outside
    packages, of its folder) that it imports, directly or through others; other libraries are not
    part of it.

    Args:
        settings: the `model` section.
        quick: take size and modification time of the weights and programs instead of their content.

    Raises:
        ConfigError: when the entry or the weights do not exist.
    """
    entry = resolve_entry(settings.entry)
    fields: dict[str, object] = {
        "args": to_json(settings.args),
        "name": entry.name,
        "kind": "program" if entry.kind == "exported" else entry.kind,  # stored in keys
    }
    if entry.kind == "exported":
        fields["code"] = _file_identity(entry.path, quick)
    else:
        fields["code"] = [
            [path.name, _file_identity(path, False)] for path in local_imports(entry.path)
        ]
    if settings.weights is not None:
        weights = Path(settings.weights).expanduser()
        if not weights.is_file():
            raise ConfigError(
                f"model.weights: there is no file {settings.weights} (seen from {os.getcwd()})"
            )
        fields["weights"] = _file_identity(weights, quick)
    return hash_key(**fields)


def local_imports(path: Path) -> list[Path]:
    """The file and all files of its package, or of its folder, that it imports, sorted."""
    path = path.resolve()
    root, own = import_root(path), _own_folder(path)
    seen: set[Path] = set()
    pending = [path]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        try:
            tree = ast.parse(current.read_bytes())
        except (SyntaxError, ValueError):
            continue  # reported when the model is loaded
        for node in ast.walk(tree):
            for dotted, base in _imported_names(node, current.parent, root):
                files = module_files(dotted, base)
                pending.extend(file for file in files if own and file.is_relative_to(own))
    return sorted(seen)


def _imported_names(node: ast.AST, folder: Path, root: Path) -> list[tuple[str, Path]]:
    """Dotted names in an import statement, each with the folder it is looked up from."""
    if isinstance(node, ast.Import):
        return [(alias.name, root) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = folder if node.level else root
    for _ in range(node.level - 1):
        base = base.parent
    stem = f"{node.module}." if node.module else ""
    # `from package import name`: the name may be a module or something inside the package.
    names = [f"{stem}{alias.name}" for alias in node.names] + ([node.module] if node.module else [])
    return [(name, base) for name in names]


def module_files(dotted: str, base: Path) -> list[Path]:
    """The files that importing a dotted name below `base` runs; none if it is not there."""
    files: list[Path] = []
    for part in dotted.split("."):
        base = base / part
        if base.with_suffix(".py").is_file():
            files.append(base.with_suffix(".py"))
            break
        if (base / "__init__.py").is_file():
            files.append(base / "__init__.py")
        elif not base.is_dir():  # a folder without `__init__.py` is a namespace package
            break
    return files


def import_root(path: Path) -> Path:
    """The folder from which the file's package, or the file itself, is imported."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _own_folder(path: Path) -> Path | None:
    """The folder whose files belong to the entry: its top-level package, or its folder.

    None for a single file among installed libraries. Of pvio itself only `pvio.models` counts:
    changes of results by the rest of pvio are marked by the schema numbers in
    `pvio.pipeline.planning.keys`.
    """
    root = import_root(path)
    if path.is_relative_to(Path(__file__).resolve().parent):
        return Path(__file__).resolve().parent
    if path.parent != root:
        return root / path.relative_to(root).parts[0]
    return None if root.name in ("site-packages", "dist-packages") else root


def _check_defined(path: Path, name: str) -> None:
    """Find a misspelt name without running the file; names made at run time are let through."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"model.entry: {path} is not valid Python: {error!r}") from error
    defined = _names_made_by(ast.walk(tree))
    first = name.split(".")[0]
    if first not in defined and not defined & {"*", "__getattr__"}:
        outside = list(_outside_of_definitions(tree))
        near = difflib.get_close_matches(first, _names_made_by(outside), n=1)
        models = sorted(_names_made_by(node for node in outside if isinstance(node, _DEFINITIONS)))
        hint = f"it defines {', '.join(models)}" if models else "it has no class and no function"
        if near:
            hint = f"did you mean {near[0]!r}?"
        raise ConfigError(f"model.entry: {path} defines no {first!r}; {hint}")


def _names_made_by(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that definitions, imports and assignments make."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, _DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _outside_of_definitions(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a file but those inside of its classes and functions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, _DEFINITIONS):
            yield from _outside_of_definitions(node)


def _file_identity(path: Path, quick: bool) -> object:
    if quick:
        stat = path.stat()
        return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def find_module(dotted: str) -> Path | None:
    """The file of a module, found without running any package's `__init__`."""
    path: list[str] | None = search_path()
    parts = dotted.split(".")
    spec = None
    for i in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            # Editable installs hook themselves into sys.meta_path instead of sys.path.
            spec = _find_on_meta_path(".".join(parts[: i + 1]), None if i == 0 else path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def _find_on_meta_path(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        if spec is not None:
            return spec
    return None
