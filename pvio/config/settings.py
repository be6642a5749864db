"""The settings of a run: one typed model of `config.yaml`, with defaults and readable errors."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema, field_validator, model_validator

from pvio.config.explain import explain
from pvio.config.model import ModelSettings
from pvio.config.output import OutputSettings
from pvio.config.renamed import with_current_names
from pvio.config.section import Positive, Section
from pvio.config.text import join_text
from pvio.errors import ConfigError
from pvio.layout import RESULTS_FOLDER

logger = logging.getLogger(__name__)

# Longer than any process runs; timeouts of locks and threads have a limit not far above.
_LONGEST_SECONDS = 1e9


class Settings(Section):
    """All settings of `config.yaml`."""

    videos: Annotated[
        list[str], WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}})
    ] = Field(
        default_factory=lambda: ["samples/*.mp4"],
        description="files, globs, folders, image folders, or .txt/.tsv lists of these",
        examples=[["/data/exp1", "/data/exp2"]],
    )
    exclude: Annotated[
        list[str], WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}})
    ] = Field(
        default_factory=list,
        description="files, globs and folders that are left out of `videos`",
        examples=[["/data/exp1/broken.mp4", "**/*_test.mp4"]],
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
    results: str = Field(
        default=RESULTS_FOLDER,
        description="folder in which finished videos appear; the folder above must be writable",
        examples=["/data/exp1_crf18"],
    )
    staging_dir: str | None = Field(
        default=None,
        min_length=1,
        description="folder on a disk of each node, to which jobs copy videos before decoding them",
        examples=["$TMPDIR"],
    )
    on_damaged: Literal["mark", "fail"] = Field(
        default="mark",
        description="mark: report damage in the results; fail: also end the run with an "
        "error, once all results are written",
        examples=["fail"],
    )
    on_failed: Literal["fail", "mark"] = Field(
        default="fail",
        description="videos at which the model, the encoder or pvio failed; fail: end the run "
        "with an error, once the results of the others are written; mark: only "
        "report it in the results",
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

    @field_validator("videos", "exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if not isinstance(value, (str, list, tuple)):
            raise ValueError("expected a path, a pattern, or a list of these")
        return [value] if isinstance(value, str) else value

    @field_validator("videos")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not value or any(not entry.strip() for entry in value):
            raise ValueError("expected at least one path, and no empty ones")
        return value

    @field_validator("exclude")
    @classmethod
    def _no_empty_ones(cls, value: list[str]) -> list[str]:
        if any(not entry.strip() for entry in value):
            raise ValueError("expected paths or patterns, and no empty ones")
        return value

    @field_validator("shards", mode="wrap")
    @classmethod
    def _number_or_auto(cls, value: Any, check: Any) -> Any:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError("expected auto or a whole number from 1 on")
        return check(value)

    @field_validator("results")
    @classmethod
    def _own_folder(cls, value: str) -> str:
        path = os.path.abspath(os.path.expanduser(value)) if value.strip() else "/"
        if os.path.join(os.getcwd(), "").startswith(os.path.join(path, "")):
            raise ValueError("expected a folder for results alone, not one with this folder in it")
        return os.path.expanduser(value)

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
        ConfigError: with one line per error, each naming the key, the value and what is allowed.
    """
    current, warnings = with_current_names(data)
    for warning in warnings:
        logger.warning("%s: %s", source, warning)
    try:
        return Settings.model_validate(join_text(current))
    except ValidationError as error:
        lines = [explain(each, Settings) for each in error.errors()]
        unique = list(dict.fromkeys(lines))
        raise ConfigError(
            f"{source} has {len(unique)} error(s):\n  " + "\n  ".join(unique)
        ) from None
