"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# For the sides of a picture and numbers of frames: 1 or more, and no more than 32 bits hold.
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Section(BaseModel):
    """A part of the settings: unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
