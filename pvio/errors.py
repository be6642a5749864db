"""Exceptions whose text is written for the person who has to act on it."""


class PvioError(Exception):
    """Base of all errors that pvio raises on purpose; the text says what to do."""


class ConfigError(PvioError, ValueError):
    """A setting is unknown, has the wrong type or lies outside its range."""


class CollectionError(PvioError, ValueError):
    """The `videos` setting leads to no usable collection."""


class UnreadableVideo(PvioError, ValueError):
    """A file holds no video stream that can be read."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ModelError(PvioError):
    """A model cannot be loaded, or breaks the contract of docs/models.md."""


class StoreError(PvioError):
    """An entry of the cache is absent or damaged."""


class EncodeError(PvioError):
    """A video could not be encoded or joined."""


class FailedSegments(PvioError):
    """Some segments of a job failed; all others of the job are done."""


class DamagedVideos(PvioError):
    """Some videos are damaged or unreadable and the settings say `on_damaged: fail`."""
