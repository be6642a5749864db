"""Files have one name each, in code and in the rules of the workflow."""

from __future__ import annotations

import re

from clips import REPOSITORY

from pvio import layout

RULES = sorted((REPOSITORY / "workflow").rglob("*.smk"))
NAME = re.compile(r"""["'](work(?:/[^"']*)?)["']""")


def test_rules_name_files_as_the_code_does():
    known = {value for name, value in vars(layout).items() if name.isupper()}
    known |= {layout.receipt_file(stage, "{scatteritem}") for stage in layout.STAGES}
    found = {name for path in RULES for name in NAME.findall(path.read_text())}
    assert len(found) > 5
    assert found - known == set()


def test_receipts_are_distinguished_from_other_tables():
    assert layout.receipt_file("infer", "1-of-2") == "work/infer/1-of-2.json"
    assert layout.shard_plan_file("encode", "1-of-2") == "encode/1-of-2.json"
    names = [value for value in vars(layout).values() if isinstance(value, str)]
    files = [name for name in names if name.startswith("work/")]
    assert len(set(files)) == len(files)
