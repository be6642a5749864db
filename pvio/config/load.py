"""The settings of a run: one typed model of `config.yaml`, with defaults and readable errors."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pvio.config.codecs import CODECS, CodecName
from pvio.config.text import (
    differ_in_types_only,
    is_null,
    join_text,
    overlay,
    plain,
    read_argument,
    read_file,
    read_text,
    write_text,
)
from pvio.errors import ConfigError
from pvio.layout import Kind, Stage

ENTRY_PATTERN = re.compile(r"^(?P<where>.+?):(?P<name>[A-Za-z_][A-Za-z0-9_.]*)$")
PROGRAM_SUFFIXES = (".pt", ".pt2", ".pth", ".ts", ".torchscript")

# For the sides of a picture and numbers of frames: 1 or more, and no more than 32 bits hold.
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
# What no process lives through; the clocks of locks and threads end not far above.
_LONGEST_SECONDS = 1e9


class Section(BaseModel):
    """A part of the settings: unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(Section):
    """What runs over the frames, and how frames reach it."""

    entry: str = Field(
        default="pvio.models:OpenFieldTracker",
        description="package.module:name, path/to/file.py:name, or a TorchScript/torch.export file",
        examples=["my_model.py:Net"],
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the model's class or function",
        examples=[{"n_animals": 1}],
    )
    weights: str | None = Field(
        default=None,
        description="file with a state_dict, loaded with weights_only=True",
        examples=["net.pt"],
    )
    channels: Literal["rgb", "gray"] = Field(
        default="gray",
        description="rgb, or gray: the luma samples as one channel, no color conversion",
        examples=["rgb"],
    )
    size: tuple[Positive, Positive] | None = Field(
        default=None,
        description="[height, width] to resize frames to; null: each video keeps its size",
        examples=[[224, 224]],
    )
    dtype: Literal["float32", "uint8"] = Field(
        default="float32", description="float32 in [0, 1], or uint8 in [0, 255]", examples=["uint8"]
    )
    normalize: dict[Literal["mean", "std"], list[float]] | None = Field(
        default=None,
        description="{mean: [...], std: [...]}: subtract the mean and divide by the standard "
        "deviation, one number per channel, on the scale [0, 1]; needs dtype: "
        "float32",
        examples=[{"mean": [0.45], "std": [0.23]}],
    )
    batch_size: Positive = Field(
        default=32,
        description="frames per call of the model; the last batch of a segment may be smaller",
        examples=[8],
    )
    device: Annotated[
        str, WithJsonSchema({"type": "string", "pattern": r"^(auto|cpu|cuda|cuda:\d+)$"})
    ] = Field(
        default="auto",
        description="auto: CUDA if there is a device, else the CPU; without a number each job "
        "takes a GPU of its own",
        examples=["cuda:1"],
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="below float32: PyTorch's autocast", examples=["bfloat16"]
    )

    @field_validator("size", mode="before")
    @classmethod
    def _size_from_list(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise ValueError("expected two numbers, [height, width]")
        return tuple(value) if isinstance(value, list) else value

    @field_validator("args", mode="before")
    @classmethod
    def _plain_arguments(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        faults = []
        for name, each in value.items():
            try:
                plain(each, str(name))
            except ConfigError as error:
                faults.append(str(error))
        if faults:
            raise ValueError("; ".join(faults))
        return plain(value)

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
        description="none: no video; overlay: the source with the model's drawing; frames: the "
        "frames that the model returns under the key 'frames'",
        examples=["none"],
    )
    codec: CodecName = Field(
        default="libx264", description="FFmpeg's encoder", examples=["libx265"]
    )
    crf: int = Field(
        default=18,
        ge=0,
        le=51,
        description="quality: 0 is lossless, 51 the worst; without meaning for ffv1, which is "
        "lossless",
        examples=[23],
    )
    preset: str = Field(
        default="medium", description="encoder speed against file size", examples=["veryfast"]
    )
    pix_fmt: str = Field(
        default="auto",
        description="pixel format of the video; auto: plays widely; source: the source's own; "
        "or an FFmpeg name like yuv420p",
        examples=["yuv420p"],
    )
    options: dict[str, str | int | float] = Field(
        default_factory=dict,
        description="more options of the encoder, by FFmpeg's names",
        examples=[{"x264-params": "keyint=50"}],
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
                is_number = isinstance(option, int | float) and not isinstance(option, bool)
                if not isinstance(option, str) and not (is_number and math.isfinite(option)):
                    raise ValueError(f"expected text or a number for '{name}'")
                if name in ("crf", "preset", "pix_fmt"):
                    raise ValueError(f"'{name}' has a key of its own, output.{name}")
        return value

    @property
    def makes_video(self) -> bool:
        """Whether there are re-encoded videos at all."""
        return self.video != "none"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that work on segments, in their order."""
        return ("infer", "encode") if self.video == "overlay" else ("infer",)

    def kinds_of(self, stage: Stage) -> tuple[Kind, ...]:
        """Kinds of the entries that a stage computes for a segment, in the order of `Task.entries`.

        A stage that is not among `stages` computes none.
        """
        if stage not in self.stages:
            return ()
        if stage == "encode":
            return ("video",)
        return ("predictions", "video") if self.video == "frames" else ("predictions",)

    def encodes_in(self, stage: Stage) -> bool:
        """Whether a stage encodes frames."""
        return "video" in self.kinds_of(stage)

    @property
    def suffix(self) -> Literal[".mp4", ".mkv"]:
        """Ending of the videos, with its dot."""
        return CODECS[self.codec].suffix


class Settings(Section):
    """Everything that can stand in `config.yaml`."""

    videos: Annotated[
        list[str], WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}})
    ] = Field(
        default_factory=lambda: ["samples/*.mp4"],
        description="files, globs, folders, image folders, or .txt/.tsv lists of these",
        examples=[["/data/exp1", "/data/exp2"]],
    )
    shards: Annotated[
        int | Literal["auto"],
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
    ] = Field(
        default="auto",
        description="number of infer jobs and of encode jobs; auto: the cores given to "
        "Snakemake, on a cluster the jobs that may run at once",
        examples=[64],
    )
    segment_frames: Positive = Field(
        default=2000,
        description="target length of a segment, the unit of work, in frames",
        examples=[500],
    )
    cache: str = Field(
        default=".pvio",
        description="folder of frame indexes and finished segments; runs may share it",
        examples=["/scratch/pvio"],
    )
    stage: str | None = Field(
        default=None,
        min_length=1,
        description="folder on a disk of each node, to which jobs copy videos before decoding them",
        examples=["$TMPDIR"],
    )
    on_damaged: Literal["mark", "fail"] = Field(
        default="mark",
        description="mark: say in the results what is damaged; fail: also end the run with an "
        "error, once all results are written",
        examples=["fail"],
    )
    on_failed: Literal["fail", "mark"] = Field(
        default="fail",
        description="videos at which the model, the encoder or pvio failed; fail: end the run "
        "with an error, once the results of the others are written; mark: only say "
        "so in the results",
        examples=["mark"],
    )
    decoder: Literal["auto", "pyav", "torchcodec", "cuda"] = Field(
        default="auto",
        description="auto: PyAV, which reports damage most exactly",
        examples=["pyav"],
    )
    decoder_timeout: float = Field(
        default=120,
        gt=0,
        le=_LONGEST_SECONDS,
        description="seconds to wait for a frame before the decoder counts as hanging",
        examples=[600],
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


# Settings that are text, whatever they look like.
_TEXT_KEYS = ("videos", "cache", "stage", "on_damaged", "decoder")
# Settings that may be mappings or lists.
_CONTAINERS = ("videos", "model", "output")


def parse_settings(data: dict[str, Any], *, source: str = "config") -> Settings:
    """Validate a configuration dictionary.

    Args:
        data: the merged content of the configuration files and command-line overrides.
        source: what the errors call the configuration.

    Raises:
        ConfigError: with one line per fault, each naming the key, the value and what is allowed.
    """
    try:
        return Settings.model_validate(join_text(data))
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        unique = list(dict.fromkeys(lines))
        raise ConfigError(
            f"{source} has {len(unique)} fault(s):\n  " + "\n  ".join(unique)
        ) from None


def with_types(
    config: Mapping[str, Any],
    arguments: Iterable[str],
    files: Iterable[str | os.PathLike[str]] = (),
) -> dict[str, Any]:
    """The configuration with the types that files and command line wrote.

    Snakemake reads files as YAML 1.1 does, `2024_01` as a number and `1e-5` as text, and the inside
    of `--config 'output={"crf": 20}'` as text; here all of it is read by `read_text`.

    Args:
        config: merged by Snakemake; not changed.
        arguments: the `key=value` arguments of `--config`, on the command line or of a profile.
        files: that Snakemake has merged, in this order. Where it was given something else instead,
            as by a `module` statement, that counts.

    Raises:
        ConfigError: when a file or an argument cannot be understood.
    """
    merged: Any = {}
    for path in files:
        merged = overlay(merged, read_file(os.fspath(path)) or {})
    by_files, by_config = merged, dict(config)
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key in config:
            value = _typed(key, text, config[key])
            by_files = overlay(by_files, {key: value})
            by_config = overlay(by_config, {key: value})
    return by_files if differ_in_types_only(by_files, by_config) else by_config


def _typed(key: str, text: str, value: Any) -> Any:
    """What an argument of `--config` says, where Snakemake took it for `value`."""
    bare = text.strip("'\"")
    if is_null(text):
        return None
    if isinstance(value, (Mapping, list)):
        return read_argument(bare)
    if key in _CONTAINERS and bare[:1] in ("{", "["):  # Snakemake gave it up
        with contextlib.suppress(ConfigError):
            return read_argument(bare)
    # A number may have been `2024_01` before a profile was read: an error is better than a guess.
    return bare if key in _TEXT_KEYS and str(value) != text else value


def load_settings(text_or_path: str) -> Settings:
    """Read settings from a YAML file, or from YAML/JSON text that starts with '{'.

    Raises:
        ConfigError: when they cannot be read, or are not allowed.
    """
    data, source = _read(text_or_path)
    return parse_settings(data, source=source)


def load_stored(text: str) -> tuple[Settings, list[str]]:
    """Read settings that `dump_settings` wrote, maybe in another version of pvio.

    Returns:
        The settings, and the keys that this version does not know, which are left out.

    Raises:
        ConfigError: when the rest is not allowed.
    """
    data, source = _read(text)
    known, unknown = _known_of(Settings, data)
    return parse_settings(known, source=source), unknown


def _known_of(section: type[Section], data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    known: dict[str, Any] = {}
    unknown = []
    for key, value in data.items():
        field = section.model_fields.get(key)
        kind = field.annotation if field else None
        if field is None:
            unknown.append(key)
        elif isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, dict):
            known[key], inner = _known_of(kind, value)
            unknown += [f"{key}.{name}" for name in inner]
        else:
            known[key] = value
    return known, unknown


def load_merged(base: str, given: Iterable[str]) -> Settings:
    """Read settings as Snakemake does: `base`, where it exists, and above it what was given.

    Args:
        base: a file; without a key of pvio's it is another workflow's, and not read.
        given: files, or `key=value`, which count more than files. Text that starts with '{' says
            all, so that `base` is not read.

    Raises:
        ConfigError: see `load_settings`.
    """
    given = list(given)
    data: dict[str, Any] = {}
    sources: list[str] = []
    if os.path.exists(base) and not any(text.lstrip().startswith("{") for text in given):
        found = _read(base)[0]
        if not found.keys().isdisjoint(Settings.model_fields) or not given:
            data, sources = found, [base]
    arguments = []
    for text in given:
        if re.match(r"[a-zA-Z_]\w*=", text) and not os.path.exists(text):
            arguments.append(text)
        elif text != base:
            above, source = _read(text)
            data = overlay(data, above)
            sources.append(source)
    for text in arguments:
        key, _, value = text.partition("=")
        quoted = value[:1] in ("'", '"')
        as_text = key in _TEXT_KEYS and value[:1] not in ("[", "{") and not is_null(value)
        data = overlay(data, {key: value if as_text and not quoted else read_argument(value)})
        sources.append(text)
    return parse_settings(data, source=" with ".join(sources) or "config")


def _read(text_or_path: str) -> tuple[dict[str, Any], str]:
    """The content of a file or text, and what errors call it."""
    if text_or_path.lstrip().startswith("{"):
        source = "the configuration given"
        data = read_text(text_or_path, source)
    else:
        source = text_or_path
        data = read_file(text_or_path)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must hold 'key: value' lines, not a {type(data).__name__}")
    return data, source


def dump_settings(settings: Settings, *keys: str) -> str:
    """Settings that differ from the defaults, as text of which `load_settings` makes the same.

    Args:
        keys: which of them; `section.key` picks one key of a section.
    """
    include: dict[str, Any] = {}
    for key in keys:
        section, _, inner = key.partition(".")
        include[section] = {inner} if inner else True
    chosen = settings.model_dump(include=include or None, exclude_defaults=True)
    return write_text({key: value for key, value in chosen.items() if value != {}})


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
    message: str = fault["msg"].removeprefix("Value error, ")
    if not keys:  # it concerns several keys, and names them
        return message
    told = isinstance(value, dict) and (not field or kind == "value_error")
    shown = "" if told else f", got {_shown(value)}"
    if kind == "string_type" and isinstance(value, (int, float, datetime.date)):
        shown += "; text that looks like something else needs quotes"
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{key}: {message[0].lower() + message[1:]}{shown}{meaning}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"


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
