"""The documentation and the code use the terms of docs/glossary.md, in short sentences."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
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

# Words of `REPLACED` that have other meanings in code: Python's `join`, stored names, and the like.
OTHER_IN_CODE = {
    r"sound",
    r"stitch(es|ed|ing)?|join(s|ed|ing)?",
    r"stands in|takes its place|stand-ins?",
    r"g[ia]ven? up",
    r"mend(s|ed|ing)?",
    r"vanish(es|ed)?",
    r"sub-(process(es)?|commands?|folders?)",
    r"(frames?|rows?|times?) an? (second|frame|video|file|batch)",
    r"what (is|was) done",
    r"makes of|made of",
    r"grey|colours?|licences?|neighbours?|centres?",
}
# Terms of video standards and FFmpeg.
STANDARD_TERMS = re.compile(
    r"\b([BI]-pictures?|IDR pictures?|group of pictures|(cover|attached) pictures?|"
    r"(sequence or )?picture (parameter|order|timing|header|type)|pictures? of (a|the) GOP)",
    re.IGNORECASE,
)
# The text of these modules is hashed into the keys of the cache.
HASHED = [
    REPOSITORY / "pvio/models" / name for name in ("__init__.py", "open_field.py", "blobs.py")
]
MODULES = sorted({*(REPOSITORY / "pvio").rglob("*.py")} - {*HASHED})


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


def comments_of(source: str) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a module, without code in backquotes, and their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`", "X", token.string)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False) or ""
            line = node.body[0].lineno if text else 0
            for i, each in enumerate(re.sub(r"`[^`]*`", "X", text).split("\n")):
                yield line + i, each


def words_replaced_in(source: str) -> list[str]:
    """Comments and docstrings of a module with words that another term replaces."""
    return [
        f"line {line}: {match[0]!r} in {text.strip()[:80]!r}: {instead}"
        for line, comment in comments_of(source)
        for text in [STANDARD_TERMS.sub("X", comment)]
        for word, instead in REPLACED.items()
        if word not in OTHER_IN_CODE
        for match in re.finditer(rf"\b({word})\b", text, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(REPOSITORY / "pvio").as_posix()
)
def test_comments_use_the_terms_of_the_glossary(path: Path) -> None:
    found = words_replaced_in(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_words_are_found_in_comments_and_docstrings_only() -> None:
    source = '''"""Nobody shall.

A B-picture and `rank`.
"""
rank = "a picture"  # behind it
'''
    found = words_replaced_in(source)
    assert [re.findall(r"^line (\d): '(\w+)'", each)[0] for each in found] == [
        ("5", "behind"),
        ("1", "shall"),
        ("1", "Nobody"),
    ]
