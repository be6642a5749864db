"""What the documentation says is so: its code runs, its names and links exist."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import inspect
import re
import runpy
import shutil
import sys
import tomllib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import pytest
import torch
import yaml
from pydantic import BaseModel
from snakemake.cli import get_argument_parser

import pvio
from pvio.cli import main
from pvio.config.codecs import CODECS, CodecName
from pvio.config.settings import Settings, parse_settings
from pvio.errors import ConfigError
from pvio.media.draw.canvas import Canvas
from pvio.media.index.cached import SCHEMA as INDEX_SCHEMA
from pvio.models.contract import VideoInfo
from pvio.models.open_field import OpenFieldTracker
from pvio.pipeline.planning.keys import PREDICTIONS_SCHEMA, VIDEO_SCHEMA
from pvio.pipeline.results.summary import SUMMARY_COLUMNS
from pvio.pipeline.stages.assemble import assemble
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY / "samples" / "dark_on_bright.mp4"
N_FRAMES, HEIGHT, WIDTH = 200, 240, 320
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
# The modules whose names other programs may use.
PUBLIC_MODULES = ("pvio", "pvio.video_io", "pvio.torch", "pvio.util", "pvio.models")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text) if kind == language]


def table_rows(text: str) -> list[list[str]]:
    """The cells of all table rows; rows of dashes left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_this_process: Any
) -> Iterator[Path]:
    """A working directory with the files of docs/models.md and one sample."""
    in_this_process(monkeypatch)
    for code in blocks(page("models.md"), "python"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name, f"the first line of a code block must name its file:\n{code}"
        (tmp_path / name[1]).write_text(code, encoding="utf-8")
    (tmp_path / "samples").mkdir()
    shutil.copy(SAMPLE, tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def run(model: dict[str, Any], video: str = "none") -> pvio.predictions.parquet.Predictions:
    """All stages on the sample, in two segments whose last batch is smaller than the others."""
    settings = parse_settings(
        {
            "segment_frames": 100,
            "model": {"batch_size": 33, "device": "cpu", **model},
            "output": {"video": video, "preset": "ultrafast"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    assert len(plan.segments) == 2
    receipts = [infer(next(plan.shard_plans("infer")), settings)]
    if video == "overlay":
        receipts.append(encode(next(plan.shard_plans("encode")), settings))
    assemble(plan, settings, receipts, "results")
    predictions = pvio.read_predictions("results/predictions/dark_on_bright.parquet")
    assert (predictions["status"] == "ok").all()
    return predictions


def sample_luma() -> np.ndarray:
    with av.open(str(SAMPLE)) as container:
        frames = container.decode(video=0)
        return np.stack([frame.to_ndarray()[:HEIGHT] for frame in frames]).astype(np.float64)


def decoded(path: str, form: str, numbers: Container[int] = range(10**6)) -> np.ndarray:
    with av.open(path) as container:
        frames = enumerate(container.decode(video=0))
        return np.stack([frame.to_ndarray(format=form) for n, frame in frames if n in numbers])


def differs(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where frames are clearly of another color."""
    return (np.abs(frames.astype(np.int16) - others) > 60).any(axis=3)


@pytest.mark.usefixtures("workplace")
def test_the_ten_line_model_measures_brightness() -> None:
    predictions = run({"entry": "my_model.py:Brightness"})
    expected = sample_luma().mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(predictions["brightness"], expected, rtol=1e-5)
    tiles = sample_luma().reshape(N_FRAMES, 3, 80, 4, 80).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(predictions["tiles"], tiles, rtol=1e-4)


@pytest.mark.usefixtures("workplace")
def test_a_function_is_a_model_and_takes_args() -> None:
    predictions = run({"entry": "brightness.py:brightness", "args": {"scale": 255.0}})
    expected = sample_luma().mean(axis=(1, 2))
    np.testing.assert_allclose(predictions["brightness"], expected, rtol=1e-5)


@pytest.mark.usefixtures("workplace")
def test_the_prepare_example_sees_the_video_first() -> None:
    moving = run({"entry": "movement.py:Movement", "args": {"threshold": 0.2}})["output"]
    assert moving.shape == (N_FRAMES,)
    # Two animals of about 490 pixels on 320×240, away from where they usually are.
    assert 0.002 < moving.mean() < 0.02


@pytest.mark.usefixtures("workplace")
def test_the_draw_example_marks_the_spot_it_found() -> None:
    numbers = range(0, N_FRAMES, 20)
    plain = decoded(str(SAMPLE), "rgb24", numbers)
    predictions = run({"entry": "spot.py:BrightestSpot"}, video="overlay")
    drawn = decoded("results/videos/dark_on_bright.mp4", "rgb24", numbers)
    for number, here in zip(numbers, differs(drawn, plain), strict=True):
        x, y = predictions["position"][number]
        rows, columns = np.nonzero(here)
        distance = np.hypot(columns - x, rows - y)
        assert (np.abs(distance - 10) < 3).sum() > 20, f"no circle around ({x}, {y})"


@pytest.mark.usefixtures("workplace")
def test_the_trail_example_draws_where_the_spot_was_before() -> None:
    # The second frame of the second segment: most of what was before is in the first segment.
    start, _ = make_plan(probe(parse_settings({})), parse_settings({"segment_frames": 100}), 1)
    number = start.segments[1].start + 1
    predictions = run({"entry": "spot.py:BrightestSpot"}, video="overlay")
    without = decoded("results/videos/dark_on_bright.mp4", "rgb24", (0, number))
    run({"entry": "spot_with_trail.py:BrightestSpotWithTrail"}, video="overlay")
    drawn = decoded("results/videos/dark_on_bright.mp4", "rgb24", (0, number))
    first, later = differs(drawn, without)
    way = predictions["position"][number - 12 : number + 1].astype(float)
    middles = (way[1:] + way[:-1]) / 2
    touched = [later[int(y), int(x)] for x, y in middles]
    assert sum(touched) >= len(touched) - 2
    assert not first.any()


@pytest.mark.usefixtures("workplace")
def test_the_frames_example_writes_the_negative() -> None:
    predictions = run({"entry": "negative.py:negative"}, video="frames")
    assert "frames" not in predictions
    negative = decoded("results/videos/dark_on_bright.mp4", "gray").astype(float)
    assert negative.shape == (N_FRAMES, HEIGHT, WIDTH)
    assert np.corrcoef(negative[0].ravel(), sample_luma()[0].ravel())[0, 1] < -0.99


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_models_give_what_their_class_gives(workplace: Path) -> None:
    runpy.run_path(str(workplace / "export_model.py"), run_name="__main__")
    text = next(code for code in blocks(page("models.md"), "yaml") if "net.pt2" in code)
    exported = run(yaml.safe_load(text)["model"])["features"]
    scripted = run({"entry": "net.pt"})["features"]
    own = run({"entry": "export_model.py:Net", "weights": "net_weights.pt"})["features"]
    assert exported.shape == (N_FRAMES, 8)
    np.testing.assert_allclose(exported, own, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scripted, own, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("workplace")
def test_predictions_are_read_as_outputs_md_shows() -> None:
    run({"entry": "my_model.py:Brightness"})
    for code in blocks(page("outputs.md").split("\n## Videos\n")[0], "python"):
        if "pandas" in code:
            continue  # pandas is no dependency of pvio
        names: dict[str, Any] = {}
        exec(code, names)
        read = names.get("predictions") or names["table"]
        assert len(read["tiles"]) == N_FRAMES
    field = names["table"].schema.field("tiles")
    assert field.metadata == {b"shape": b"[3, 4]"}
    said = re.search(r"under the key `pvio`: (.*?)\n\n", page("outputs.md"), re.DOTALL)
    assert said
    metadata = pvio.read_predictions("results/predictions/dark_on_bright.parquet").metadata
    assert set(re.findall(r"`(\w+)`", said[1])) == set(metadata)


@pytest.mark.usefixtures("workplace")
def test_videos_are_written_as_outputs_md_shows() -> None:
    like_a_source, by_rate = blocks(page("outputs.md").split("\n## Videos\n")[1], "python")
    exec(like_a_source, {})
    negative = decoded("negative.mp4", "gray").astype(float)
    assert negative.shape == (N_FRAMES, HEIGHT, WIDTH)
    assert np.corrcoef(negative[0].ravel(), sample_luma()[0].ravel())[0, 1] < -0.99
    exec(by_rate, {})
    ramp = decoded("ramp.mp4", "rgb24")
    assert np.abs(ramp.mean(axis=(1, 2, 3)) - np.arange(256)).max() < 2


@pytest.mark.parametrize("codec", CODECS)
def test_the_presets_of_every_encoder_are_documented(codec: CodecName) -> None:
    section = page("configuration.md").split("\n## Encoders\n")[1].split("\n### ")[0]
    rows = {row[0].strip("`"): row for row in table_rows(section)}
    said = rows[codec][2]
    if said == "the same":
        said = rows["libx264" if codec == "libx265" else "h264_nvenc"][2]
    presets = CODECS[codec].presets
    assert set(re.findall(r"`(\w+)`", said)) <= set(presets)
    assert {name for name in presets if not name.startswith("p")} <= set(re.findall(r"\w+", said))
    assert CODECS[codec].suffix in rows[codec][1]


def settings_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from settings_fields(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.get_default(call_default_factory=True)


def documented_keys() -> dict[str, list[str]]:
    section = page("configuration.md").split("## Keys", 1)[1].split("\n## ", 1)[0]
    return {row[0].strip("`"): row for row in table_rows(section) if row[0].startswith("`")}


def test_every_setting_is_documented_with_its_default() -> None:
    said = {key: yaml.safe_load(row[2].strip("`")) for key, row in documented_keys().items()}
    assert said == dict(settings_fields(Settings))


@pytest.mark.parametrize("key", sorted(documented_keys()))
def test_the_example_of_a_setting_is_valid(key: str) -> None:
    value = yaml.safe_load(documented_keys()[key][4].strip("`"))
    section, _, name = key.rpartition(".")
    parse_settings({section: {name: value}} if section else {name: value})


def test_the_shown_errors_are_the_messages_of_the_program() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(
            {"segment_frames": "many", "decoder": "gpu", "model": {"batchsize": 3}},
            source="config",
        )
    assert str(caught.value) + "\n" in blocks(page("configuration.md"), "text")


def test_yaml_blocks_are_valid_settings() -> None:
    for text in [page("configuration.md"), page("models.md")]:
        found = blocks(text, "yaml")
        assert found
        for code in found:
            parse_settings(yaml.safe_load(code))


def test_every_argument_of_the_tracker_is_documented_with_its_default() -> None:
    defaults = OpenFieldTracker.__init__.__kwdefaults__ or {}
    positional = OpenFieldTracker.__init__.__defaults__ or ()
    expected = {"n_animals": positional[0], **defaults}
    section = page("models.md").split("## The built-in tracker", 1)[1].split("It returns", 1)[0]
    rows = [row for row in table_rows(section) if row[0].startswith("`")]
    assert {row[0].strip("`"): yaml.safe_load(row[1].strip("`")) for row in rows} == expected


def test_every_method_of_the_canvas_is_documented_with_its_arguments() -> None:
    section = page("models.md").split("## Drawing", 1)[1].split("## Frames as output", 1)[0]
    said = {
        match[1]: match[2].split(", ")
        for row in table_rows(section)
        if (match := re.fullmatch(r"`(\w+)\((.*)\)`", row[0]))
    }
    methods = {
        name: list(method.__code__.co_varnames[1 : method.__code__.co_argcount])
        for name, method in vars(Canvas).items()
        if not name.startswith("_")
    }
    assert said == methods


def test_every_attribute_of_the_video_is_named() -> None:
    section = page("models.md").split("## State per video", 1)[1].split("## Drawing", 1)[0]
    for name in VideoInfo.__dataclass_fields__:
        assert f"`{name}`" in section or f"video.{name}(" in section, name


def test_every_column_of_the_summary_is_documented() -> None:
    section = page("outputs.md").split("## Summary", 1)[1].split("\n## ", 1)[0]
    first = [row[0] for row in table_rows(section)][1:]
    said = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert said == list(SUMMARY_COLUMNS)


def command_lines(text: str, program: str) -> list[str]:
    """Commands in code blocks and code spans that call a program, continued lines joined."""
    shell = "\n".join(blocks(text, "bash")).replace("\\\n", " ")
    lines = [part.strip() for part in re.split(r"\n|&&", shell)] + code_spans(text)
    return [line for line in lines if re.match(rf"{program}( |$)", line)]


def test_the_docs_show_commands() -> None:
    """Or else the next two tests would compare nothing."""
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    for program in ("pvio", "snakemake"):
        assert len(command_lines(text, program)) > 10


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_the_docs_exist(path: Path) -> None:
    for line in command_lines(path.read_text(encoding="utf-8"), "pvio"):
        words = line.split()
        commands = [word for word in words[1:2] if not word.startswith("-")]
        assert all(command in main.commands for command in commands), line
        command: click.Command = main.commands[commands[0]] if commands else main
        known = {option for parameter in command.params for option in parameter.opts}
        if commands == ["run"]:  # its options are those of Snakemake
            known |= set(get_argument_parser()._option_string_actions)
        used = set(re.findall(r"(?<= )--[\w-]+", line))
        assert used <= known | {"--help"}, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_options_of_snakemake_in_the_docs_exist(path: Path) -> None:
    known = get_argument_parser()._option_string_actions
    for line in command_lines(path.read_text(encoding="utf-8"), "snakemake"):
        assert set(re.findall(r"(?<= )--?[a-z][\w-]*", line)) <= set(known), line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_relative_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_of_the_repository_named_in_the_docs_exist(path: Path) -> None:
    folders = "workflow/|pvio/|samples/|tests/|docs/|benchmarks/"
    for span in code_spans(path.read_text(encoding="utf-8")):
        if re.fullmatch(rf"({folders})[\w./-]*", span):
            assert (REPOSITORY / span).exists(), span


def imported_modules(source: str, package: str, there: Container[str]) -> set[str]:
    """Modules of pvio that a module imports, for type checking too; `pvio` itself is left out.

    Args:
        source: of the module.
        package: that relative imports start from.
        there: all modules, to separate them from names in them.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in there else base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # Of `importlib.import_module`, by whatever name, and `__import__`.
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in ("import_module", "__import__"):
                found.add(importlib.util.resolve_name(node.args[0].value, package))
    return {name for name in found if name.startswith("pvio.")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pvio.cli.run", "pvio.cli.run"),
        ("import numpy, pvio.util as other", "pvio.util"),
        ("from pvio.cli import run", "pvio.cli.run"),
        ("from pvio.cli.run import snakefile", "pvio.cli.run"),
        ("from pvio import cli", "pvio.cli"),
        ("from pvio import cli, util", "pvio.cli pvio.util"),
        ("from . import color", "pvio.media.pixels.color"),
        ("from .color import to_rgb", "pvio.media.pixels.color"),
        ("from .. import index", "pvio.media.index"),
        ("from ...cli.run import snakefile", "pvio.cli.run"),
        ("importlib.import_module('pvio.cli.run')", "pvio.cli.run"),
        ("import_module('.color', __package__)", "pvio.media.pixels.color"),
        ("def late():\n    return __import__('pvio.util')", "pvio.util"),
        ("if TYPE_CHECKING:\n    from pvio.cli import run", "pvio.cli.run"),
        ("import pvio", ""),
        ("from pvio import __version__", ""),
        ("import pviolin; from numpy import cli; print('pvio.cli')", ""),
    ],
)
def test_imports_are_found_in_all_their_forms(source: str, expected: str) -> None:
    there = {name_of(path) for path in package_files()}
    assert imported_modules(source, "pvio.media.pixels", there) == set(expected.split())


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """The modules of pvio, each with those that it imports; `pvio` itself is left out."""
    # Templates are files that users copy.
    files = [path for path in package_files() if path.parent.name != "templates"]
    there = {name_of(path): path for path in files}
    del there["pvio"]
    found = {}
    for name, path in there.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = imported_modules(path.read_text(encoding="utf-8"), package, there)
    return found


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """The package of a module, without `pvio.`; a module of `pvio` itself stands for itself."""
    is_package = (REPOSITORY / module.replace(".", "/")).is_dir()
    package = module if is_package else module.rpartition(".")[0]
    return (module if package == "pvio" else package).removeprefix("pvio.")


def floors() -> list[str]:
    """The packages of the table in the order of their floors, the lowest first."""
    section = page("architecture.md").split("| floor |", 1)[1]
    rows = table_rows("| floor |" + section)[1:]
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row[1])]


def test_every_package_has_a_floor(imports: dict[str, set[str]]) -> None:
    # `pvio.media` and `pvio.pipeline` hold packages only, and `pvio.pipeline.guard` a module.
    found = {package_of(name) for name in imports} - {"media", "pipeline"} | {"pipeline.guard"}
    assert sorted(floors()) == sorted(found)


def test_modules_import_only_from_the_floors_below_them(imports: dict[str, set[str]]) -> None:
    order = floors()

    def floor(module: str) -> int:
        name = module.removeprefix("pvio.")
        return order.index(name if name in order else package_of(module))

    for module, others in imports.items():
        if package_of(module) in ("media", "pipeline") and module != "pvio.pipeline.guard":
            assert not others, module
            continue
        for other in others:
            assert floor(other) <= floor(module), f"{module} imports {other}"


def test_no_modules_import_each_other_in_a_circle(imports: dict[str, set[str]]) -> None:
    list(graphlib.TopologicalSorter(imports).static_order())


def test_no_package_has_more_than_nine_modules(imports: dict[str, set[str]]) -> None:
    packages = {name for name in imports if (REPOSITORY / name.replace(".", "/")).is_dir()}
    for package in packages:
        modules = [name for name in imports if name.rpartition(".")[0] == package]
        assert len(set(modules) - packages) <= 9, package


def test_every_package_says_what_lives_there() -> None:
    for path in (REPOSITORY / "pvio").rglob("__init__.py"):
        assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 40, path


def test_modules_and_functions_are_short() -> None:
    for path in package_files():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        reason = ast.get_docstring(tree) or ""
        assert text.count("\n") <= 400 or re.search(r"\blong\b", reason), path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert n_lines <= 60, f"{path}: {node.name} has {n_lines} lines"


def test_only_stages_are_stages() -> None:
    stages = {path.stem for path in (REPOSITORY / "pvio/pipeline/stages").glob("[a-z]*.py")}
    rules = {path.stem for path in (REPOSITORY / "workflow/rules").glob("*.smk")}
    rules -= {"common", "handlers", "products", "resources", "settings"}
    assert stages == rules


def test_the_api_reference_has_every_public_name() -> None:
    reference = "".join(path.read_text(encoding="utf-8") for path in PAGES if "api" in path.parts)
    shown = set(re.findall(r"^\.\. auto\w+:: (.*)$", reference, re.MULTILINE))
    public = {name for module in PUBLIC_MODULES for name in public_names(module)}
    assert {name.rpartition(".")[2] for name in shown} >= public
    for name in shown:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def public_names(module: str) -> list[str]:
    """Public names of a module: those of `__all__`, else the functions that it defines."""
    loaded = importlib.import_module(module)
    defined = [
        name
        for name, value in vars(loaded).items()
        if inspect.isfunction(value) and value.__module__ == module and name[0] != "_"
    ]
    return getattr(loaded, "__all__", defined)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == pvio.__version__
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in project["authors"]
    ]


def test_the_changelog_says_what_every_entry_recomputes() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert pvio.__version__ in text
    for entry in entries:
        title = entry.splitlines()[0]
        said = re.search(r"^Recomputes: (.*)\.$", entry, re.MULTILINE)
        assert said, title
        allowed = "nothing|(indexes|predictions|videos)(, (predictions|videos))*"
        assert re.fullmatch(allowed, said[1]), title


def test_the_changelog_has_the_schema_numbers_of_the_code() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    row = table_rows(text)[1]
    assert row[1:4] == [str(INDEX_SCHEMA), str(PREDICTIONS_SCHEMA), str(VIDEO_SCHEMA)]


def package_files() -> list[Path]:
    return sorted((REPOSITORY / "pvio").rglob("*.py"))
