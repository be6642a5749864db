"""The section `output` of the settings, and values derived from it."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from pvio.config.codecs import CODECS, CodecName
from pvio.config.section import HashedSection
from pvio.layout import Kind, Stage


class OutputSettings(HashedSection):
    """The re-encoded video."""

    first_settings: ClassVar[frozenset[str]] = frozenset(
        {"video", "codec", "crf", "preset", "pix_fmt", "options"}
    )

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
        codec = info.data.get("codec", "ffv1")  # missing if it is invalid itself
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
