"""The base class of the sections of the settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# For heights, widths and numbers of frames: at least 1, and at most 32 bits.
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Section(BaseModel):
    """A part of the settings: unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
