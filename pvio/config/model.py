"""The section `model` of the settings."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from pvio.config.section import HashedSection, Positive
from pvio.config.text import plain
from pvio.errors import ConfigError

ENTRY_PATTERN = re.compile(r"^(?P<where>.+?):(?P<name>[A-Za-z_][A-Za-z0-9_.]*)$")
PROGRAM_SUFFIXES = (".pt", ".pt2", ".pth", ".ts", ".torchscript")


class ModelSettings(HashedSection):
    """The model, and its input."""

    first_settings: ClassVar[frozenset[str]] = frozenset(
        {"channels", "size", "dtype", "normalize", "batch_size", "precision"}
    )

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
        errors = []
        for name, each in value.items():
            try:
                plain(each, str(name))
            except ConfigError as error:
                errors.append(str(error))
        if errors:
            raise ValueError("; ".join(errors))
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

    def input_settings(self) -> dict[str, Any]:
        """Those of the model's input, as they enter keys; see `model_fingerprint` for the model."""
        return self.hashed("entry", "args", "weights", "device")
