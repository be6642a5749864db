"""The documentation and the code use the terms of docs/glossary.md, in short sentences."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "config").glob("*.md"),
    ]
)

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

# Python's `join`, and joined files; these words have another meaning in code than in the pages.
OTHER_IN_CODE = {r"stitch(es|ed|ing)?|join(s|ed|ing)?"}
# Terms of video standards and FFmpeg.
STANDARD_TERMS = re.compile(
    r"\b([BI]-pictures?|IDR pictures?|group of pictures|(cover|attached) pictures?|"
    r"(sequence or )?picture (parameter|order|timing|header|type|hash(es)?)|"
    r"pictures? of (a|the) GOP)",
    re.IGNORECASE,
)
# The text of these modules is hashed into the keys of the cache.
HASHED = [
    REPOSITORY / "pvio/models" / name for name in ("__init__.py", "open_field.py", "blobs.py")
]
MODULES = sorted({*(REPOSITORY / "pvio").rglob("*.py")} - {*HASHED})
BENCHMARKS = sorted((REPOSITORY / "benchmarks").glob("*.py"))
TESTS = sorted({*(REPOSITORY / "tests").rglob("*.py")} - {Path(__file__)})
# Files of Snakemake and of YAML, whose comments have the same form.
WORKFLOW_FILES = sorted(
    path
    for path in [
        *(REPOSITORY / "workflow").rglob("*"), REPOSITORY / "Snakefile",
        REPOSITORY / "config.yaml", REPOSITORY / ".ci/run",
    ]
    if path.is_file() and path.suffix in (".smk", ".yaml", ".rst", "")
)  # fmt: skip


def short(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


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


@pytest.mark.parametrize("path", PAGES, ids=short)
def test_an_empty_line_follows_each_table(path: Path) -> None:
    # Without it, the text is a row of the table.
    lines = [*FENCE.sub("", path.read_text(encoding="utf-8")).splitlines(), ""]
    after = [b for a, b in pairwise(lines) if a.startswith("|") and b and not b.startswith("|")]
    assert not after, "\n".join(after)


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


def messages_of(source: str) -> Iterator[tuple[int, str]]:
    """Texts of more than one word that are no docstrings, and their lines."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and " " in node.value.strip()
        ):
            yield node.lineno, re.sub(r"`[^`]*`", "X", node.value)


def words_replaced(text: str, allowed: set[str]) -> list[str]:
    """Words of a text that another term replaces."""
    text = STANDARD_TERMS.sub("X", text)
    return [
        f"{match[0]!r} in {text.strip()[:80]!r}: {instead}"
        for word, instead in REPLACED.items()
        if word not in allowed
        for match in re.finditer(rf"\b({word})\b", text, re.IGNORECASE)
    ]


def words_replaced_in(source: str) -> list[str]:
    """Comments and docstrings of a module with words that another term replaces."""
    return [
        f"line {line}: {word}"
        for line, comment in comments_of(source)
        for word in words_replaced(comment, OTHER_IN_CODE)
    ]


def docstrings_of(source: str) -> Iterator[tuple[int, str]]:
    """The texts of docstrings and of their results, and their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            line = node.body[0].lineno if text else 0
            yield line, text
            for match in re.finditer(r"^(?:Returns|Yields):\n +", text, re.MULTILINE):
                yield line + text[: match.end()].count("\n"), text[match.end() :]


def clauses_in(source: str) -> list[str]:
    """Docstrings of a module that begin with a clause instead of a noun or a verb."""
    return [
        f"line {line}: {text.splitlines()[0]!r}"
        for line, text in docstrings_of(source)
        if re.match(r"(What|How|Which|Why|Where)\b", text)
    ]


@pytest.mark.parametrize("path", [*MODULES, *BENCHMARKS, *TESTS], ids=short)
def test_comments_use_the_terms_of_the_glossary(path: Path) -> None:
    found = words_replaced_in(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", WORKFLOW_FILES, ids=short)
def test_comments_of_the_workflow_use_the_terms_of_the_glossary(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".rst":
        text = "\n".join(re.findall(r"(?:^|\s)#\s(.*)", text))
    assert not words_replaced(re.sub(r"`[^`]*`", "X", text), OTHER_IN_CODE)


@pytest.mark.parametrize("path", [*MODULES, *BENCHMARKS], ids=short)
def test_messages_use_the_terms_of_the_glossary(path: Path) -> None:
    found = [
        f"line {line}: {word}"
        for line, text in messages_of(path.read_text(encoding="utf-8"))
        for word in words_replaced(text, OTHER_IN_CODE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_docstrings_begin_with_a_noun_or_a_verb(path: Path) -> None:
    found = clauses_in(path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_clauses_are_found_in_docstrings_and_results() -> None:
    source = '''"""Which modules there are."""

def f():
    """Whether this is one.

    Returns:
        What it is.
    """

class C:
    """However, how it works is not at the start."""
'''
    assert clauses_in(source) == ["line 1: 'Which modules there are.'", "line 7: 'What it is.'"]


@pytest.mark.parametrize("path", [*MODULES, *BENCHMARKS], ids=short)
def test_loggers_have_one_name(path: Path) -> None:
    names = re.findall(r"^(\w+) = .*getLogger\(__name__\)", path.read_text("utf-8"), re.MULTILINE)
    assert names == ["logger"] * len(names)


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
