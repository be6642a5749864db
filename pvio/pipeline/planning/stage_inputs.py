"""The settings that each stage depends on: a changed one runs the stages again that it concerns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pvio.config.load import dump_settings
from pvio.config.settings import Settings
from pvio.layout import SETTINGS_FOLDER

_COMPUTED_WITH = ("cache", "model", "decoder", "decoder_timeout", "staging_dir")


@dataclass(frozen=True)
class SettingsFile:
    """Some of the settings, as a file that the jobs of a stage read.

    Attributes:
        digest: of the text; the file is named after it.
        text: one line of ASCII, see `dump_settings`.
    """

    digest: str
    text: str

    @property
    def path(self) -> str:
        """Of the file, in the working folder."""
        return f"{SETTINGS_FOLDER}/{self.digest}.json"


def settings_file(settings: Settings, *keys: str) -> SettingsFile:
    """The file for these keys of the settings, which is not written here."""
    text = dump_settings(settings, *keys)
    return SettingsFile(hashlib.blake2b(text.encode(), digest_size=6).hexdigest(), text)


def plan_identity(inputs: Mapping[str, SettingsFile], *others: str) -> str:
    """A digest of all that a plan is made for; the number of shards is not part of it.

    Args:
        inputs: see `stage_inputs`.
        others: of the collection, the model and the version of pvio.
    """
    text = "\0".join((inputs["probe"].digest, inputs["plan"].digest, *others))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def stage_inputs(settings: Settings) -> dict[str, SettingsFile]:
    """The settings that each stage depends on, by its name.

    Most keys of the plan are there for the predicted costs, which `costs.json` refines without a
    new run.
    """
    encode = settings_file(settings, *_COMPUTED_WITH, "output")
    infer = settings_file(settings, *_COMPUTED_WITH)
    return {
        "probe": settings_file(settings, "videos", "exclude", "cache", "decoder_timeout"),
        "plan": settings_file(
            settings, "cache", "segment_frames", "model", "decoder", "decoder_timeout", "output"
        ),
        "infer": encode if settings.output.encodes_in("infer") else infer,
        "encode": encode,
        "assemble": settings_file(settings, *_COMPUTED_WITH, "output", "segment_frames"),
    }
