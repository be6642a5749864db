"""`pvio init`: files to start with, a config.yaml and a model template."""

from __future__ import annotations

from pathlib import Path

from pvio.cli.run import packaged
from pvio.errors import PvioError

_MODEL = Path(__file__).parent / "templates/model.py"
# Settings that differ from the defaults.
_CHANGES = {
    "videos: [samples/*.mp4]": "videos: [videos]",
    "entry: pvio.models:OpenFieldTracker": "entry: model.py:Model",
}


def write_templates(folder: Path, *, force: bool = False) -> list[Path]:
    """Write config.yaml and model.py into a folder, which is created if missing.

    Args:
        folder: of the future run.
        force: whether to overwrite these files.

    Returns:
        The paths of the files.

    Raises:
        PvioError: when one of them exists and `force` is false; then nothing is written.
    """
    texts = {
        folder / "config.yaml": template_settings(),
        folder / "model.py": _MODEL.read_text(encoding="utf-8"),
    }
    there = [path for path in texts if path.exists() or path.is_symlink()]
    if there and not force:
        names = " and ".join(map(str, there))
        raise PvioError(f"{names} would be overwritten; --force does so")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def template_settings() -> str:
    """The text of the annotated config.yaml, with the model and the videos of `pvio init`."""
    text = packaged("cli/templates/config.yaml", "config.yaml").read_text(encoding="utf-8")
    for default, own in _CHANGES.items():
        text = text.replace(default, own)
    return text
