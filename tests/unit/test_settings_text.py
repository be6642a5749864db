"""Settings as text: what is read is what was written, and what a person meant."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pvio.cache.atomic import write_json
from pvio.cli.main import main
from pvio.config.load import dump_settings, load_merged, load_settings, load_stored, with_types
from pvio.config.settings import Settings, parse_settings
from pvio.config.text import plain, read_argument, read_file, read_text, same, write_text
from pvio.errors import ConfigError
from pvio.pipeline.planning.manifest import Plan
from pvio.pipeline.planning.registry import register, registered_runs
from pvio.pipeline.planning.stage_inputs import settings_file

LOOKS_LIKE_SOMETHING = [
    *("2024_01", "1e5", "1e-05", "1.0e+20", "007", "0x1F", "12:30", ".nan", ".inf", "inf", "nan"),
    *("on", "off", "yes", "no", "true", "True", "null", "None", "~", "", " ", "2024-01-05"),
    *("!pairs", "<<", "=", "*a", "&a", "- a", "a: b", "#", "{}", "[1]", "'", '"', "\\", "\\n"),
    *("🐭", "\ud83d", "\udcff", "\x00", "\x85", "\u2028", "\ufeff", "\t", "a\r\nb", "\x7f"),
]
TEXT = st.one_of(st.sampled_from(LOOKS_LIKE_SOMETHING), st.text(st.characters()))
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from([1e-5, 1e20, 1e16, 5e-324, math.nan, math.inf, -math.inf, -0.0]),
)
SCALARS = st.one_of(TEXT, NUMBERS, st.booleans(), st.none())
KEYS = st.one_of(TEXT, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)
ARGS = st.dictionaries(TEXT, VALUES, max_size=4)


def exact(value: Any) -> Any:
    """A value in which types, signs of zero and NaN count."""
    if isinstance(value, dict):
        return {(type(key), key): exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return type(value), repr(value)


def settings_with(args: dict[str, Any], *videos: str) -> Settings:
    return parse_settings({"videos": list(videos) or ["v"], "model": {"args": args}})


@given(VALUES)
def test_what_is_written_is_read(value: Any):
    value = plain(value)
    text = write_text(value)
    assert text.isascii()
    assert exact(read_text(text, "text")) == exact(value)


@given(ARGS, st.lists(TEXT.filter(str.strip), min_size=1, max_size=3))
def test_what_is_loaded_equals_what_was_dumped(args: dict[str, Any], videos: list[str]):
    settings = settings_with(args, *videos)
    loaded = load_settings(dump_settings(settings))
    assert exact(loaded.model.args) == exact(settings.model.args) == exact(plain(args))
    assert loaded.videos == settings.videos
    assert load_stored(dump_settings(settings))[1] == []


@given(ARGS)
def test_a_configuration_given_as_a_profile_gives_it_is_the_same(args: dict[str, Any]):
    args = plain(args)
    text = f"model={ {'args': args}!r}"  # as `snakemake.profiles` makes arguments
    found = with_types({"model": {"args": {}}}, [text])
    assert exact(found["model"]["args"]) == exact(args)


@given(ARGS)
def test_a_configuration_given_as_json_is_the_same(args: dict[str, Any]):
    args = plain(args)
    found = with_types({"model": {"args": {}}}, ["model=" + write_text({"args": args})])
    assert exact(found["model"]["args"]) == exact(args)


def test_the_file_of_a_job_and_the_registry_hold_the_same(tmp_path: Path):
    args = {"eps": 1e-5, "big": 1e20, "nan": math.nan, "mouse": "🐭", "text": "2024_01"}
    cache = str(tmp_path / "🐭")
    settings = parse_settings({"cache": cache, "model": {"args": {**args, "names": {0: "a"}}}})
    path = tmp_path / "settings.json"
    path.write_text(settings_file(settings, "cache", "model").text + "\n")
    assert exact(load_settings(str(path)).model.args) == exact(settings.model.args)
    assert load_settings(str(path)).cache == cache
    plan = tmp_path / "plan.json"
    write_json(plan, Plan([], [], [], []))
    register(plan, plan, settings, "a model")
    (run,) = registered_runs(cache)
    assert exact(run.settings.model.args) == exact(settings.model.args)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024_01", "2024_01"), ("007", "007"), ("08", "08"), ("12:30", "12:30"),
        ("1_000", "1_000"), ("12e5678", "12e5678"),
        ("1e-5", 1e-5), ("1e5", 1e5), ("1.5E+3", 1500.0), ("-.5", -0.5), ("1.", 1.0),
        (".inf", math.inf), ("-.inf", -math.inf), ("0x1F", 31), ("0o17", 15), ("-3", -3),
        ("on", True), ("true", True), ("null", None), ("~", None), ("'null'", "null"),
        ("2024-01-05", datetime.date(2024, 1, 5)),
    ],
)  # fmt: skip
def test_numbers_are_those_of_json(text: str, value: Any):
    assert exact(read_text(f"key: {text}", "text")["key"]) == exact(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'size': None, 'ok': True}", {"size": None, "ok": True}),  # of a profile
        ("{'a': nan, 'b': [-inf, 1e-05]}", {"a": math.nan, "b": [-math.inf, 1e-5]}),
        ("""{'a': "it's", 'b': 'x\\ny'}""", {"a": "it's", "b": "x\ny"}),
        ("{0: 'a', 'b': ('c',)}", {0: "a", "b": ("c",)}),
        ('{"size": null, "a": 1e-05}', {"size": None, "a": 1e-5}),  # JSON
        ('["\\ud83d\\udc2d.mp4"]', ["🐭.mp4"]),
        ("{size: null, a: 1e-5}", {"size": None, "a": 1e-5}),  # YAML
        (r"{pattern: '\d+'}", {"pattern": r"\d+"}),
        ("{name: 'it''s'}", {"name": "it's"}),
    ],
)
def test_an_argument_is_read_as_it_was_written(text: str, value: Any):
    assert exact(read_argument(text)) == exact(value)


@pytest.mark.parametrize(
    ("argument", "taken_for", "value"),
    [
        ("stage=None", "None", None),  # null in a profile
        ("staging_dir=null", "null", None),
        ("stage=", None, None),
        ('stage="null"', "null", "null"),
        ("cache=2024_01", 202401, "2024_01"),
        ("cache='2024_01'", 202401, "2024_01"),
        ("cache=1e5", 1e5, "1e5"),
        ('cache="2024"', 2024, "2024"),
        ("cache=2024", 2024, 2024),  # may have been 2024_0 in a profile: refused later
        ("videos=2024-01-05", "2024-01-05", "2024-01-05"),
        ("shards=3", 3, 3),
        ("decoder_timeout=1e3", 1000.0, 1000.0),
        ('videos="[a.mp4]"', ["a.mp4"], ["a.mp4"]),
        ("model=entry: a.py:M", {"entry": "a.py:M"}, {"entry": "a.py:M"}),
        # Of a profile; no YAML, and so text to Snakemake.
        ("""videos=['it\\'s "a"']""", """['it\\'s "a"']""", ['it\'s "a"']),
    ],
)
def test_an_argument_of_a_single_value(argument: str, taken_for: Any, value: Any):
    key = argument.partition("=")[0]
    assert with_types({key: taken_for}, [argument]) == {key: value}


def test_files_count_as_written_and_arguments_above_them(tmp_path: Path):
    low, high = tmp_path / "low.yaml", tmp_path / "high.yaml"
    low.write_text("cache: 2024_01\nmodel: {args: {a: 1e-5, b: 2, c: {0: x}}}\n")
    high.write_text("model: {args: {b: 12:30}}\n")
    read_by_snakemake = {
        "cache": 202401,
        "model": {"args": {"a": "1e-5", "b": 750, "c": {0: "x"}, "d": "2024_02", "e": "1e-7"}},
    }
    arguments = ["model={args: {d: 2024_02}}", "model={args: {e: 1e-7}}"]
    assert with_types(read_by_snakemake, arguments, [low, high]) == {
        "cache": "2024_01",
        "model": {"args": {"a": 1e-5, "b": "12:30", "c": {0: "x"}, "d": "2024_02", "e": 1e-7}},
    }
    # A `module` statement hands over a configuration of its own.
    assert with_types({"cache": "mine"}, [], [low, high]) == {"cache": "mine"}


def test_keys_that_are_no_text_may_be_given_on_the_command_line():
    found = with_types({"model": {"args": {"0": "a"}}}, ["model={args: {0: a}}"])
    assert found == {"model": {"args": {0: "a"}}} or found["model"]["args"] == {"0": "a"}


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            datetime.date(2024, 1, 5),
            "model.args: a: 2024-01-05 is a date in YAML; put it in quotes",
        ),
        ([datetime.datetime(2024, 1, 5, 12)], "a[0]: 2024-01-05 12:00:00 is a date"),
        ({"b": Odd()}, "a.b: expected text, a number, true, false, null"),
        ({1, 2}, "expected text, a number"),
        (b"x", "expected text, a number"),
        ([10**5000], "more than 4000 digits"),
    ],
    ids=["date", "time", "object", "set", "bytes", "huge"],
)
def test_what_cannot_be_passed_on_is_an_error(value: Any, text: str):
    with pytest.raises(ConfigError) as caught:
        settings_with({"a": value})
    assert text in str(caught.value)


def test_what_contains_itself_is_an_error(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("model: &m {args: {a: *m}}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is nested without end"):
        read_file(str(file))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="nested without end"):
        settings_with({"a": endless})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"cache: a\nshards: 2\ncache: b\n", "'cache' occurs twice, in lines 1 and 3"),
        (b"model:\n  args: {a: 1, a: 2}\n", "'a' occurs twice, in lines 2 and 2"),
        (b'{"cache": "a", "cache": "b"}', "'cache' occurs twice"),
        (b"output:\n\tcrf: 3\n", "indent with spaces"),
        (b'cache: "\xe9"\n', "it is not UTF-8"),
        (b"a: !!python/object:os.system x\n", "could not determine a constructor"),
        (b"a: " + b"1" * 5000, "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named(tmp_path: Path, content: bytes, text: str):
    file = tmp_path / "lab.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(str(file))
    assert "lab.yaml" in str(caught.value)
    assert text in str(caught.value)


def test_a_byte_order_mark_and_anchors_are_read(tmp_path: Path):
    file = tmp_path / "lab.yaml"
    file.write_bytes(b"\xef\xbb\xbfvideos: &v [a]\nmodel: {args: {<<: {x: 1}, x: 2, v: *v}}\n")
    settings = load_settings(str(file))
    assert (settings.videos, settings.model.args) == (["a"], {"x": 2, "v": ["a"]})


@pytest.mark.parametrize(
    "data",
    [
        {"decoder_timeout": math.inf},
        {"decoder_timeout": math.nan},
        {"decoder_timeout": 1e300},
        {"segment_frames": 10**30},
        {"model": {"normalize": {"mean": [math.nan], "std": [1.0]}}},
        {"model": {"normalize": {"mean": [0.0], "std": [math.inf]}}},
        {"output": {"options": {"qcomp": math.nan}}},
    ],
)
def test_numbers_that_no_job_could_use_are_refused(data: dict[str, Any]):
    with pytest.raises(ConfigError):
        parse_settings(data)


def test_a_number_in_the_place_of_text_is_answered_with_quotes():
    with pytest.raises(ConfigError, match=r"cache: .*got 202401; .*needs quotes"):
        parse_settings({"cache": 202401})


def test_nan_is_no_change():
    assert same({"a": math.nan}, {"a": math.nan})
    assert not same({"a": 1}, {"a": 1.0})


def test_settings_of_another_version_are_read_as_far_as_they_are_known():
    text = '{"cache": "c", "gone": 1, "model": {"args": {"a": 1}, "old": 2}, "output": {"x": 1}}'
    settings, unknown = load_stored(text)
    assert (settings.cache, settings.model.args) == ("c", {"a": 1})
    assert unknown == ["gone", "model.old", "output.x"]


def test_what_was_given_to_snakemake_goes_above_config_yaml(tmp_path: Path):
    base, lab = tmp_path / "config.yaml", tmp_path / "lab.yaml"
    base.write_text("segment_frames: 7\noutput: {crf: 3}\n")
    lab.write_text("output: {video: none}\n")
    found = load_merged(
        str(base), [str(lab), "cache=2024_01", "staging_dir=null", 'videos=["a"]', "shards=3"]
    )
    above = {"cache": "2024_01", "videos": ["a"], "shards": 3}
    assert found == parse_settings(
        {"segment_frames": 7, "output": {"crf": 3, "video": "none"}, **above}
    )
    # Text is all there is, and another workflow's file is none of pvio's.
    assert load_merged(str(base), ["{shards: 3}"]) == parse_settings({"shards": 3})
    base.write_text("pvio: {shards: 2}\n")
    assert load_merged(str(base), [str(lab)]) == load_settings(str(lab))
    with pytest.raises(ConfigError, match="pvio: unknown key"):
        load_merged(str(base), [])
    assert load_merged(str(tmp_path / "absent.yaml"), []) == Settings()


@pytest.mark.parametrize("command", [["status", "--json"], ["clean", "--unused", "--yes"]])
def test_status_and_clean_take_several_settings_after_config(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e1").mkdir()
    (tmp_path / "e1/a.mp4").touch()
    (tmp_path / "more.yaml").write_text("shards: 2\n")
    given = ["--config", 'videos=["e1"]', "segment_frames=100", "more.yaml"]
    done = CliRunner().invoke(main, [*command, *given])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, [*command, *given, "segment_frame=1"])
    assert "did you mean 'segment_frames'" in done.output
    done = CliRunner().invoke(main, [*command, "segment_frames=1"])
    assert done.exit_code == 2
    assert "after --config" in done.output


@pytest.mark.parametrize(
    ("file", "option", "folder"),
    [
        ("shards: 2", ["stage=2024_01"], "2024_01"),
        ("shards: 2", ["{stage: $TMPDIR}"], "$TMPDIR"),
        ("stage: /fast", [], "/fast"),
    ],
)
def test_the_old_name_of_a_setting_works_with_a_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
    option: list[str],
    folder: str,
):
    base = tmp_path / "config.yaml"
    base.write_text(file)
    assert load_merged(str(base), option).staging_dir == folder
    assert caplog.text.count("stage is now called staging_dir") == 1


def test_the_current_name_of_a_setting_gives_no_warning(caplog: pytest.LogCaptureFixture):
    assert parse_settings({"staging_dir": "/fast"}).staging_dir == "/fast"
    assert not caplog.records


def test_a_setting_under_both_names_is_an_error_that_names_both():
    with pytest.raises(ConfigError) as caught:
        parse_settings({"stage": "/fast", "staging_dir": "/local"})
    assert "stage: '/fast' and staging_dir: '/local'" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"stage": "/fast", "staging_dir": None}, {"stage": None, "staging_dir": "/fast"}],
    ids=["old name", "current name"],
)
def test_a_name_without_a_value_gives_way(given: dict[str, str | None]):
    """The configuration that pvio ships has `staging_dir: null`."""
    assert parse_settings(given).staging_dir == "/fast"


def test_stored_settings_with_an_old_name_are_read(caplog: pytest.LogCaptureFixture):
    settings, unknown = load_stored('{"stage": "/fast"}')
    assert (settings.staging_dir, unknown) == ("/fast", [])
    assert not caplog.records
