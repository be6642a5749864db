"""The settings of a run: one typed model of `config.yaml`, with defaults and readable errors."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pvio.codecs import CODECS, CodecName
from pvio.errors import ConfigError

ENTRY_PATTERN = re.compile(r"^(?P<where>.+?):(?P<name>[A-Za-z_][A-Za-z0-9_.]*)$")
PROGRAM_SUFFIXES = (".pt", ".pt2", ".pth", ".ts", ".torchscript")

# For the sides of a picture and numbers of frames: 1 or more.
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSettings(Section):
    """What runs over the frames, and how frames reach it."""

    entry: str = Field(
        default="pvio.models:OpenFieldTracker",
        description="package.module:name, path/to/file.py:name, or a TorchScript/torch.export file",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of a class or factory"
    )
    weights: str | None = Field(
        default=None, description="state_dict file, loaded with weights_only=True"
    )
    channels: Literal["rgb", "gray"] = Field(
        default="gray", description="rgb, or gray: the luma samples, no colour conversion"
    )
    size: tuple[Positive, Positive] | None = Field(
        default=None, description="[height, width] to resize frames to; null keeps each video's own"
    )
    dtype: Literal["float32", "uint8"] = Field(
        default="float32", description="float32 in [0, 1], or uint8 in [0, 255]"
    )
    normalize: dict[Literal["mean", "std"], list[float]] | None = Field(
        default=None, description="{mean: [...], std: [...]} per channel, applied to float32 frames"
    )
    batch_size: Positive = Field(default=32, description="frames per call of the model")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="below float32: autocast on the device"
    )

    @field_validator("size", mode="before")
    @classmethod
    def _size_from_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("entry")
    @classmethod
    def _entry_form(cls, value: str) -> str:
        if not value.endswith(PROGRAM_SUFFIXES) and not ENTRY_PATTERN.match(value):
            raise ValueError(
                "expected package.module:name, path/to/file.py:name, or a file that ends in "
                + ", ".join(PROGRAM_SUFFIXES)
            )
        return value

    @field_validator("device")
    @classmethod
    def _device_form(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("expected auto, cpu, cuda or cuda:N")
        return value

    @model_validator(mode="after")
    def _normalize_fits(self) -> ModelSettings:
        if self.normalize is None:
            return self
        if set(self.normalize) != {"mean", "std"}:
            raise ValueError("normalize needs both mean and std")
        channels = {"rgb": 3, "gray": 1}[self.channels]
        if any(len(values) != channels for values in self.normalize.values()):
            raise ValueError(f"normalize needs {channels} number(s) each for mean and std")
        if any(value <= 0 for value in self.normalize["std"]):
            raise ValueError("normalize needs a std above 0")
        if self.dtype != "float32":
            raise ValueError("normalize needs dtype: float32")
        return self


class OutputSettings(Section):
    """The re-encoded video."""

    video: Literal["none", "overlay", "frames"] = Field(
        default="overlay",
        description="none; overlay: the source with the model's drawing; "
        "frames: the pictures the model returns under the key 'frames'",
    )
    codec: CodecName = Field(default="libx264", description="FFmpeg's encoder")
    crf: int = Field(default=18, ge=0, le=51, description="quality: 0 lossless ... 51 worst")
    preset: str = Field(default="medium", description="encoder speed against file size")
    pix_fmt: str = Field(
        default="auto",
        description="auto: plays widely; source: the source's own; or an FFmpeg name like yuv420p",
    )
    options: dict[str, str | int | float] = Field(
        default_factory=dict, description="more options of the encoder, by FFmpeg's names"
    )

    @field_validator("preset")
    @classmethod
    def _preset_of_codec(cls, value: str, info: ValidationInfo) -> str:
        codec = info.data.get("codec", "ffv1")  # absent where it is a fault itself
        if CODECS[codec].presets and value not in CODECS[codec].presets:
            raise ValueError(f"{codec} has {', '.join(CODECS[codec].presets)}")
        return value

    @field_validator("pix_fmt")
    @classmethod
    def _format_of_codec(cls, value: str, info: ValidationInfo) -> str:
        codec = info.data.get("codec")
        if codec and value not in ("auto", "source", *CODECS[codec].pixel_formats):
            known = ", ".join(CODECS[codec].pixel_formats)
            raise ValueError(f"{codec} takes auto, source, {known}")
        return value

    @field_validator("options", mode="before")
    @classmethod
    def _plain_options(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, option in value.items():
                if isinstance(option, bool) or not isinstance(option, str | int | float):
                    raise ValueError(f"expected text or a number for '{name}'")
                if name in ("crf", "preset", "pix_fmt"):
                    raise ValueError(f"'{name}' has a key of its own, output.{name}")
        return value

    @property
    def suffix(self) -> Literal[".mp4", ".mkv"]:
        """Ending of the videos, with its dot."""
        return CODECS[self.codec].suffix


class Settings(Section):
    """Everything that can stand in `config.yaml`."""

    videos: list[str] = Field(
        default_factory=lambda: ["samples/*.mp4"],
        description="files, globs, folders, image folders, or .txt/.tsv lists of these",
    )
    shards: int | Literal["auto"] = Field(
        default="auto", description="infer and encode jobs; auto: the cores of one machine"
    )
    segment_frames: Positive = Field(
        default=2000, description="target length of a segment, the unit of work, in frames"
    )
    cache: str = Field(default=".pvio", description="folder of frame indexes and finished segments")
    stage: str | None = Field(
        default=None,
        min_length=1,
        description="folder on a disk of each node, to which jobs copy videos before decoding them",
    )
    on_damaged: Literal["mark", "fail"] = Field(
        default="mark", description="mark damaged rows and videos, or also fail at the very end"
    )
    on_failed: Literal["fail", "mark"] = Field(
        default="fail",
        description="what videos mean at which the model, the encoder or pvio failed: fail at the "
        "very end, or only mark them",
    )
    decoder: Literal["auto", "pyav", "torchcodec", "cuda"] = Field(
        default="auto", description="auto: PyAV, which reports damage most exactly"
    )
    decoder_timeout: float = Field(
        default=120,
        gt=0,
        description="seconds to wait for a frame before the decoder counts as hanging",
    )
    model: ModelSettings = Field(default_factory=ModelSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)

    @field_validator("videos", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("videos")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not value or any(not entry.strip() for entry in value):
            raise ValueError("expected at least one path, and no empty ones")
        return value

    @field_validator("shards", mode="wrap")
    @classmethod
    def _number_or_auto(cls, value: Any, check: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError("expected auto or a whole number from 1 on")
        return check(value)

    @field_validator("cache")
    @classmethod
    def _home(cls, value: str) -> str:
        return os.path.expanduser(value)

    @property
    def resolved_decoder(self) -> Literal["pyav", "torchcodec", "cuda"]:
        """The decoder that `auto` stands for."""
        return "pyav" if self.decoder == "auto" else self.decoder

    @model_validator(mode="after")
    def _decoder_fits(self) -> Settings:
        if self.decoder == "torchcodec" and self.model.channels == "gray":
            raise ValueError(
                "decoder: torchcodec delivers RGB only; with model.channels: gray use pyav or auto"
            )
        return self


def parse_settings(data: dict[str, Any], *, source: str = "config") -> Settings:
    """Validate a configuration dictionary.

    Args:
        data: the merged content of the configuration files and command-line overrides.
        source: what the errors call the configuration.

    Raises:
        ConfigError: with one line per fault, each naming the key, the value and what is allowed.
    """
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        unique = list(dict.fromkeys(lines))
        raise ConfigError(
            f"{source} has {len(unique)} fault(s):\n  " + "\n  ".join(unique)
        ) from None


def with_types(config: dict[str, Any], arguments: Iterable[str]) -> dict[str, Any]:
    """The configuration with the types that the command line wrote.

    Snakemake reads the inside of `--config 'output={"crf": 20}'` as strings; here it is YAML, as in
    the file.

    Args:
        config: merged by Snakemake; not changed.
        arguments: the `key=value` arguments of `--config`.
    """
    typed = copy.deepcopy(dict(config))
    for argument in arguments:
        key, _, text = argument.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(value, (dict, list)) and key in typed:
            typed[key] = _overlay(typed[key], value)
    return typed


def load_settings(text_or_path: str) -> Settings:
    """Read settings from a YAML file, or from YAML/JSON text that starts with '{'."""
    if text_or_path.lstrip().startswith("{"):
        text, source = text_or_path, "the configuration given"
    else:
        try:
            text, source = Path(text_or_path).read_text(encoding="utf-8"), text_or_path
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {text_or_path}: {error}") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must hold 'key: value' lines, not a {type(data).__name__}")
    return parse_settings(data, source=source)


def dump_settings(settings: Settings, *keys: str) -> str:
    """Settings that differ from the defaults, as JSON text that `load_settings` takes.

    Args:
        keys: which of them; `section.key` picks one key of a section.
    """
    include: dict[str, Any] = {}
    for key in keys:
        section, _, inner = key.partition(".")
        include[section] = {inner} if inner else True
    chosen = settings.model_dump(mode="json", include=include or None, exclude_defaults=True)
    return json.dumps({key: value for key, value in chosen.items() if value != {}}, sort_keys=True)


def _overlay(below: Any, above: Any) -> Any:
    """`above`, and what only `below` has, dictionary by dictionary."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: _overlay(below.get(key), value) for key, value in above.items()}}


def save_settings(settings: Settings, *keys: str, folder: str = "work/settings") -> str:
    """Write settings to a file named after its content, see `dump_settings`.

    Returns:
        The path of the file, below `folder`.
    """
    text = dump_settings(settings, *keys)
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    path = Path(folder) / f"{digest}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    return path.as_posix()


def _explain(fault: Any) -> str:
    path = [part for part in fault["loc"] if isinstance(part, (str, int))]
    section, keys = _section_at(path)
    key = ".".join(str(part) for part in keys) or "config"
    kind, value = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        known = sorted(section.model_fields)
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known keys: " + ", ".join(known)
        return f"{key}: unknown key; {hint}"
    if kind == "model_type":
        example = next(iter(section.model_fields))
        return f"{key}: expected a section of keys such as {example}, got {value!r}"
    field = section.model_fields.get(str(keys[-1])) if keys else None
    message = fault["msg"].removeprefix("Value error, ")
    if not keys:  # it concerns several keys, and names them
        return message
    shown = "" if isinstance(value, dict) and not field else f", got {value!r}"
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{key}: {message[0].lower() + message[1:]}{shown}{meaning}"


def _section_at(path: list[Any]) -> tuple[type[Section], list[Any]]:
    """The section that owns the faulty key, and the key without pydantic's branch names."""
    section: type[Section] = Settings
    keys: list[Any] = []
    for part in path:
        field = section.model_fields.get(str(part))
        keys.append(part)
        if field is None:
            break
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            section = annotation
            continue
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            break
    return section, keys
