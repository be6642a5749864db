"""Puts the workflow and the annotated settings into the wheel; pyproject.toml has all the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


def carried() -> dict[str, str]:
    """Files that `pvio run` and `pvio init` need: their paths in the package, and here."""
    files = [
        path.relative_to("workflow").as_posix()
        for path in sorted(Path("workflow").rglob("*"))
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.parts)
    ]
    workflow = {f"pvio/_workflow/{name}": f"workflow/{name}" for name in files}
    return {**workflow, "pvio/cli/templates/config.yaml": "config.yaml"}


class BuildWithWorkflow(build_py):
    """Copies the workflow into what is built; an editable install uses the one of the clone."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        # What an earlier build left here would get into the wheel.
        shutil.rmtree(Path(self.build_lib, "pvio"), ignore_errors=True)
        super().run()
        for name, source in carried().items():
            target = Path(self.build_lib, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_source_files(self) -> list[str]:
        """The files that a source distribution needs."""
        return [*super().get_source_files(), *carried().values()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """The files that are built."""
        built = [str(Path(self.build_lib, name)) for name in carried()]
        return super().get_outputs(include_bytecode) + ([] if self.editable_mode else built)


setup(cmdclass={"build_py": BuildWithWorkflow})
