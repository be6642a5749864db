"""The documentation uses the terms of docs/glossary.md, in short sentences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])

# Words that were used before, as regular expressions, and the term to use instead.
REPLACED = {
    r"(?<!group of )pictures?(?! timing)": "frame, image or pixels",
    r"ranks?": "frame number",
    r"tells?|told": "report, show",
    r"complaints?|complain(s|ed)?": "log message, logged error",
    r"g[ia]ven? up": "skipped",
    r"patience": "timeout",
    r"behind": "after",
    r"in front of": "before",
    r"beside": "next to",
    r"sound": "audio, or undamaged",
    r"faults?": "error",
    r"remarks?": "warning",
    r"mend(s|ed|ing)?": "fix",
    r"sub-(process(es)?|commands?|folders?)": "written without a hyphen",
    r"dies|deaths?": "crash, exit, is killed",
    r"vanish(es|ed)?": "is missing, disappears",
    r"goes on|go on|went on": "continue",
    r"stands in|takes its place|stand-ins?": "fallback, replacement",
    r"stitch(es|ed|ing)?|join(s|ed|ing)?": "concatenate",
    r"shall": "must, should",
    r"whoever|nobody|anybody|somebody": "name the person or process",
    r"makes of|made of": "convert to, built from",
    r"(frames?|rows?|times?) an? (second|frame|video|file|batch)": "per",
    r"grey|colours?|licences?|neighbours?|centres?": "American spelling",
    r"the store": "the cache",
    r"what (is|was) done": "finished segments",
}
# Pages on which a listed word is an example or a term that the glossary explains.
ALLOWED = {"docs/glossary.md": {r"ranks?"}}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MOST_WORDS = 25


def prose(path: Path) -> str:
    """The text of a page without code."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]+`", "X", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_the_terms_of_the_glossary(path: Path) -> None:
    text = prose(path)
    name = path.relative_to(REPOSITORY).as_posix()
    found = [
        f"{match[0]!r} in {line.strip()[:80]!r}: {instead}"
        for word, instead in REPLACED.items()
        if word not in ALLOWED.get(name, set())
        for line in text.splitlines()
        for match in re.finditer(rf"\b({word})\b", line, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


def sentences(text: str) -> list[str]:
    """Sentences of paragraphs and list items; tables and headings left out."""
    lines = [
        "" if line.startswith(("|", "#")) or " · " in line else line for line in text.splitlines()
    ]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.) )", "\n".join(lines))
    joined = [re.sub(r"\]\([^)]*\)", "]", " ".join(block.split())) for block in blocks]
    return [part for block in joined for part in re.split(r"(?<=[.:;!?])\s+", block) if part]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_sentences_are_short(path: Path) -> None:
    long = [each for each in sentences(prose(path)) if len(each.split()) > MOST_WORDS]
    assert not long, "\n".join(long)
