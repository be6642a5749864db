"""`pvio --help` lists what users type apart from what rules call, and cuts no text off."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from pvio.cli.main import main


def commands_of(section: str, text: str) -> set[str]:
    """The commands that a section of the help lists."""
    lines = text.split(f"\n{section}:\n")[1].split("\n\n")[0]
    return set(re.findall(r"^  (\S+)", lines, re.MULTILINE))


def test_the_commands_of_the_rules_are_apart(repository: Path):
    text = CliRunner().invoke(main, ["--help"]).output
    rules = "".join(path.read_text() for path in (repository / "workflow/rules").glob("*.smk"))
    called = set(re.findall(r"\"(?:PVIO_JOB=1 )?pvio ([a-z]+) ", rules))
    assert commands_of("Called by the workflow's rules, in this order", text) == called
    assert commands_of("Commands", text) == set(main.commands) - called


def test_no_text_is_cut_off():
    assert "..." not in CliRunner().invoke(main, ["--help"]).output.split("Commands:")[1]
    for name in main.commands:
        done = CliRunner().invoke(main, [name, "--help"])
        assert done.exit_code == 0
        assert done.output.startswith(f"Usage: main {name}") or name == "run"
