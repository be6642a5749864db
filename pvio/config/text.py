"""Settings as text: reading YAML and JSON, and a form that restores the same values."""

from __future__ import annotations

import ast
import contextlib
import datetime
import json
import math
import re
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from pvio.errors import ConfigError

# Deeper than any settings; an anchor that contains itself has no end.
_MOST_LEVELS = 100
# Python prints and parses no longer numbers (sys.get_int_max_str_digits).
_MOST_BITS = 14_000
# A mapping with keys that are no text, as a list of pairs.
_PAIRS = "!pairs"
# Spellings of null in profiles and on command lines.
_NULLS = ("", "~", "null", "Null", "NULL", "None")

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+]?[0-9]{1,3})?|[eE][-+]?[0-9]{1,3})"
    r"|\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_text(text: str, source: str) -> Any:
    """The value of a YAML or JSON text.

    Numbers are those of JSON and YAML 1.2: `1e-5` is one; `2024_01`, `12:30` and `007`, which YAML
    1.1 takes for 202401, 750 and 7, are text.

    Args:
        text: of a file, or of a command line.
        source: what errors call it.

    Raises:
        ConfigError: when it is neither, or a key occurs twice in a mapping.
    """
    try:
        return _from_json(json.loads(text, object_pairs_hook=_unique))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except (ValueError, RecursionError):
        pass
    try:
        try:
            return yaml.load(text, _QuickLoader)
        except yaml.YAMLError:  # libyaml knows no surrogates
            return yaml.load(text, _Loader)
    except _DoubleKeyError as error:
        raise ConfigError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        hint = "; indent with spaces, not with tabs" if "\\t" in str(error) else ""
        raise ConfigError(f"{source} is not valid YAML: {error}{hint}") from error


def read_file(path: str) -> Any:
    """The value of a YAML or JSON file.

    Raises:
        ConfigError: when it cannot be read, see `read_text`.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: it is not UTF-8 ({error}); save it with this "
            "encoding"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    try:
        return join_text(read_text(text, path))
    except ConfigError as error:
        raise ConfigError(str(error).replace("the configuration", path, 1)) from None


def write_text(value: Any) -> str:
    """Plain values as ASCII text, from which `read_text` makes the same values again.

    Raises:
        ConfigError: for values that `plain` refuses.
    """
    return json.dumps(to_json(value), sort_keys=True)


def to_json(value: Any) -> Any:
    """Plain values as JSON has them: mappings with keys that are no text become lists of pairs."""
    if isinstance(value, Mapping):
        if _PAIRS in value or not all(isinstance(key, str) for key in value):
            return {_PAIRS: [[to_json(key), to_json(each)] for key, each in value.items()]}
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    return value


def join_text(value: Any, level: int = 0) -> Any:
    """A value in which halves of a character are one again; mappings and lists are plain ones.

    Raises:
        ConfigError: for what contains itself.
    """
    if level > _MOST_LEVELS:
        raise ConfigError("the configuration is nested without end, or too deep")
    if isinstance(value, Mapping):
        return {
            join_text(key, level + 1): join_text(each, level + 1) for key, each in value.items()
        }
    if isinstance(value, list):
        return [join_text(each, level + 1) for each in value]
    return _joined(value) if isinstance(value, str) else value


def plain(value: Any, where: str = "") -> Any:
    """A value that can be passed to jobs: text, numbers, booleans, null, lists and mappings.

    Subclasses become the types themselves, tuples lists, and halves of a character its whole.

    Args:
        value: to be passed on.
        where: its place, for errors.

    Raises:
        ConfigError: for other types, such as the dates of YAML, and what contains itself.
    """
    return _plain(value, where, 0)


def _plain(value: Any, where: str, level: int) -> Any:
    if level > _MOST_LEVELS:
        raise ConfigError(f"{where[:80]}: it is nested without end, or too deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _joined(str(value))
    if isinstance(value, int) and abs(int(value)).bit_length() <= _MOST_BITS:
        return int(value)
    if isinstance(value, float) and type(value).__module__ == "builtins":
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each, f"{where}[{i}]", level + 1) for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _plain_key(key, where): _plain(each, f"{where}.{key}" if where else str(key), level + 1)
            for key, each in value.items()
        }
    raise ConfigError(f"{f'{where}: ' if where else ''}{_refusal(value)}")


def _plain_key(key: Any, where: str) -> Any:
    if isinstance(key, (tuple, Mapping, list)):
        raise ConfigError(f"{where}: expected text or a number as key, got {key!r}")
    return _plain(key, where, 0)


def _refusal(value: Any) -> str:
    expected = "expected text, a number, true, false, null, or lists and mappings of these"
    if isinstance(value, datetime.date):
        return f"{value} is a date in YAML; put it in quotes: '{value}'"
    if isinstance(value, int):
        return f"{expected}, got a number of more than 4000 digits"
    return f"{expected}, got {value!r} ({type(value).__name__})"


def _joined(text: str) -> str:
    """Text in which the two halves of a character, as JSON escapes it, are one again."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def read_argument(text: str) -> Any:
    """The value of a `key=value` argument of Snakemake's: as JSON, Python or YAML writes it.

    Profiles pass mappings and lists as Python writes them.

    Raises:
        ConfigError: when it is none of these.
    """
    if text[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            return _from_json(json.loads(text, object_pairs_hook=_unique))
        no_python = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
        with contextlib.suppress(*no_python), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            value = _from_python(ast.parse(text, mode="eval").body)
            if repr(value) == text:
                return value
    return read_text(text, "--config")


def is_null(text: str) -> bool:
    """Whether an argument stands for null."""
    return text in _NULLS


def overlay(below: Any, above: Any) -> Any:
    """`above`, plus the keys that only `below` has, mapping by mapping."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    # Snakemake takes all keys on the command line for text.
    twins = {str(key).lower() for key in above if not isinstance(key, str)}
    kept = {key: value for key, value in below.items() if str(key).lower() not in twins}
    return {**kept, **{key: overlay(below.get(key), value) for key, value in above.items()}}


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same; NaN is itself."""
    return write_text(plain(one)) == write_text(plain(other))


def differ_in_types_only(typed: Any, value: Any) -> bool:
    """Whether two values differ only in numbers that are text in one of them."""
    if isinstance(typed, Mapping) and isinstance(value, Mapping):
        keys = typed.keys() == value.keys()
        return keys and all(differ_in_types_only(typed[key], value[key]) for key in typed)
    if isinstance(typed, (list, tuple)) and isinstance(value, (list, tuple)):
        pairs = zip(typed, value, strict=False)
        return len(typed) == len(value) and all(differ_in_types_only(*pair) for pair in pairs)
    if isinstance(typed, str) != isinstance(value, str):
        number = value if isinstance(typed, str) else typed
        return isinstance(number, (int, float))
    if isinstance(typed, float) and isinstance(value, float) and math.isnan(typed):
        return math.isnan(value)
    return bool(typed == value)


class _DoubleKeyError(ConfigError):
    """A key occurs twice in a mapping."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise _DoubleKeyError(f"the key '{double}' occurs twice; remove one")
    return found


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_PAIRS}:
            return {_from_json(key): _from_json(each) for key, each in value[_PAIRS]}
        return {key: _from_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    return value


def _from_python(node: ast.expr) -> Any:
    """The value of an expression of constants, lists, mappings, nan, inf and dates."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [_from_python(each) for each in node.elts]
        case ast.Tuple():
            return tuple(_from_python(each) for each in node.elts)
        case ast.Dict():
            keys = [_from_python(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(_from_python, node.values), strict=True))
        case ast.Name(id="nan" | "inf"):
            return float(node.id)
        case ast.UnaryOp(op=ast.USub()):
            return -_from_python(node.operand)
        case ast.Call(func=ast.Attribute(ast.Name("datetime"), "date" | "datetime" as name)):
            return getattr(datetime, name)(*map(_from_python, node.args))
    raise ValueError("it is no plain value")


class _Plain:
    """The common part of both loaders, see `read_text`."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in getattr(node, "value", ()):
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in seen:
                raise _DoubleKeyError(
                    f"the key '{key.value}' occurs twice, in lines {seen[key.value]} and {line}; "
                    "remove one"
                )
            seen[key.value] = line
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return mapping


def _integer(loader: Any, node: Any) -> int:
    return int(node.value, 0)


def _real(loader: Any, node: Any) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Loader(_Plain, yaml.SafeLoader):
    pass


class _QuickLoader(_Plain, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


for _class in (_Loader, _QuickLoader):
    _class.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] not in _NUMBERS]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, _pattern in zip(_NUMBERS, (_INTEGER, _FLOAT), strict=True):
        _whole = re.compile(f"(?:{_pattern.pattern})$")
        _class.add_implicit_resolver(_tag, _whole, list("-+.0123456789"))
    _class.add_constructor(_NUMBERS[0], _integer)
    _class.add_constructor(_NUMBERS[1], _real)
