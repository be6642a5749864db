"""The base classes of the sections of the settings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# For heights, widths and numbers of frames: at least 1, and at most 32 bits.
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Section(BaseModel):
    """A part of the settings: unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class HashedSection(Section):
    """A section whose values are part of keys of the cache."""

    # The settings that always enter a key. Those added later have no place here: existing keys stay
    # as long as such a setting has its default, so its default must keep the old behavior.
    first_settings: ClassVar[frozenset[str]]

    def hashed(self, *left_out: str) -> dict[str, Any]:
        """The settings that enter a key, by name, as JSON has them.

        Args:
            left_out: names of settings that do not enter it.
        """
        values = self.model_dump(mode="json", exclude=set(left_out))
        fields = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name in self.first_settings
            or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }
