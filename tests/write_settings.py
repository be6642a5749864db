"""Writes files from the settings (`pvio/config/settings.py`) and from `requirements.lock`.

Run it after a change of either: `python tests/write_settings.py`. It writes the schema of the
configuration, the table in docs/configuration.md, the configuration that the Snakemake workflow
catalog looks for, the default profile next to the Snakefile of a clone, and the environment for
`snakemake --sdm conda`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

import pvio
from pvio.config.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE_HEAD = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n"

# Where the documentation says more than the table.
SEE = {
    "videos": "[below](#the-videos)",
    "shards": "[clusters.md](clusters.md#how-many-shards)",
    "staging_dir": "[below](#copies-on-a-nodes-own-disk)",
    "on_failed": "[recovery.md](recovery.md#the-model-fails)",
    "decoder": "[below](#decoding-on-a-gpu)",
    "decoder_timeout": "[below](#decoders-that-hang)",
    "model.entry": "[models.md](models.md)",
    "model.channels": "[models.md](models.md#what-the-model-gets)",
    "model.device": "[below](#several-gpus)",
    "output.codec": "[below](#encoders)",
    "output.preset": "[below](#encoders)",
    "output.pix_fmt": "[below](#pixel-formats)",
}

SCHEMA_HEAD = """\
# The keys of config.yaml, for editors and forms. Written by `python tests/write_settings.py` from
# the settings in pvio/config/settings.py, which check more than this.
"""

ENVIRONMENT_HEAD = """\
# For `snakemake --sdm conda`: pvio of this version, and what it needs in the versions that it is
# tested with. Written from requirements.lock by `python tests/write_settings.py`.
# pip looks for pvio in its index. Where that has none, build the wheel first in a clone, and name
# its folder:
#   python -m pip wheel --no-deps -w dist . && PIP_FIND_LINKS=$PWD/dist snakemake --sdm conda ...
"""


def schema() -> str:
    """The JSON schema of the configuration, as YAML."""
    found = Settings.model_json_schema()
    _without_titles(found)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "pvio"}
    text = yaml.safe_dump({**head, **found}, sort_keys=False, width=100, allow_unicode=True)
    return SCHEMA_HEAD + text


def _without_titles(node: Any) -> None:
    """Leave out titles that repeat the key."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for each in node.values():
            _without_titles(each)


def table() -> str:
    """The table of settings in docs/configuration.md."""
    return TABLE_HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows(Settings))


def _rows(section: type[BaseModel], prefix: str = "") -> Iterator[list[str]]:
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{prefix}{name}.")
            continue
        key = f"{prefix}{name}"
        meaning = (field.description or "") + (f"; see {SEE[key]}" if key in SEE else "")
        default = field.get_default(call_default_factory=True)
        examples = [_shown(each) for each in field.examples or ()]
        yield [f"`{key}`", _type(properties[name]), _shown(default), meaning, ", ".join(examples)]


def _type(schema: dict[str, Any]) -> str:
    """The type of a setting, in words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if "pattern" in schema:
        values = schema["pattern"].strip("^$()").replace("\\d+", "N").split("|")
        return ", ".join(f"`{value}`" for value in values)
    match schema["type"]:
        case "integer" | "number" as kind:
            return f"{kind}{_range(schema)}"
        case "array" if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])} numbers"
        case ["string", "array"]:
            return "text, or list of texts"
        case kind:
            return {"string": "text", "object": "mapping", "null": "null"}[kind]


def _range(schema: dict[str, Any]) -> str:
    if "maximum" in schema and schema["maximum"] < 1000:
        return f" {schema['minimum']} to {schema['maximum']}"
    if "exclusiveMinimum" in schema:
        return f" > {schema['exclusiveMinimum']}"
    return f" ≥ {schema['minimum']}"


def _shown(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict | list | tuple):
        text = yaml.safe_dump(
            json.loads(json.dumps(value)), default_flow_style=True, width=1000
        ).strip()
    else:
        text = json.dumps(value).strip('"')
    return f"`{text}`"


def page() -> str:
    """docs/configuration.md with its table."""
    path = REPOSITORY / "docs/configuration.md"
    old = re.compile(re.escape(TABLE_HEAD) + r"(?:\|.*\n)+")
    text, n = old.subn(lambda _: table(), path.read_text(encoding="utf-8"), count=1)
    assert n == 1, "docs/configuration.md has no table of settings"
    return text


def environment() -> str:
    """The environment of the rules."""
    lock = {}
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            name, _, version = line.partition("==")
            lock[canonicalize_name(name)] = version
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [canonicalize_name(Requirement(each).name) for each in project["dependencies"]]
    pins = [f"{name}=={lock[name]}" for name in names]
    data = {
        "channels": ["conda-forge"],
        "dependencies": ["python =3.11", "pip", {"pip": [f"pvio=={pvio.__version__}", *pins]}],
    }
    return ENVIRONMENT_HEAD + yaml.safe_dump(data, sort_keys=False)


def written() -> dict[str, str]:
    """The content of each file that this program writes, by its path in the repository."""
    return {
        "workflow/schemas/config.schema.yaml": schema(),
        "docs/configuration.md": page(),
        "config/config.yaml": (REPOSITORY / "config.yaml").read_text(encoding="utf-8"),
        "profiles/default/config.yaml": (
            REPOSITORY / "workflow/profiles/default/config.yaml"
        ).read_text(encoding="utf-8"),
        "workflow/envs/pvio.yaml": environment(),
    }


if __name__ == "__main__":
    for name, text in written().items():
        path = REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
