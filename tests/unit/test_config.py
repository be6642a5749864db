"""Settings: defaults, and errors that say which key, which value and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pvio.config.load import dump_settings, load_settings
from pvio.config.settings import Settings, parse_settings
from pvio.errors import ConfigError


def error_of(data: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_settings(data)
    return str(caught.value)


def keys_of(data: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of all keys; the content of free dictionaries is not looked into."""
    keys = set()
    for key, value in data.items():
        keys.add(prefix + key)
        if isinstance(value, dict):
            keys |= keys_of(value, f"{prefix}{key}.")
    return keys


def test_no_key_is_required():
    assert parse_settings({}) == Settings()


def test_the_default_model_is_the_built_in_tracker_on_gray_frames():
    model = Settings().model
    assert (model.entry, model.channels) == ("pvio.models:OpenFieldTracker", "gray")


def test_config_yaml_holds_the_defaults(repository: Path):
    assert load_settings(str(repository / "config.yaml")) == Settings()


def test_config_yaml_lists_every_key(repository: Path):
    written = yaml.safe_load((repository / "config.yaml").read_text(encoding="utf-8"))
    assert keys_of(written) == keys_of(Settings().model_dump())


@pytest.mark.parametrize(
    ("data", "key", "near"),
    [
        ({"shrads": 2}, "shrads", "shards"),
        ({"model": {"batchsize": 8}}, "model.batchsize", "batch_size"),
        ({"output": {"codecs": "libx264"}}, "output.codecs", "codec"),
    ],
)
def test_an_unknown_key_is_answered_with_the_near_one(data: dict[str, Any], key: str, near: str):
    message = error_of(data)
    assert f"{key}: unknown key" in message
    assert f"'{near}'" in message


def test_an_unknown_key_far_from_all_is_answered_with_the_known_ones():
    message = error_of({"output": {"zzz": 1}})
    assert all(key in message for key in ("video", "codec", "crf", "preset"))


@pytest.mark.parametrize(
    ("data", "key", "value", "allowed"),
    [
        ({"decoder": "gpu"}, "decoder", "'gpu'", ("auto", "pyav", "torchcodec", "cuda")),
        ({"on_damaged": "skip"}, "on_damaged", "'skip'", ("mark", "fail")),
        ({"shards": "many"}, "shards", "'many'", ("auto", "1")),
        ({"shards": 0}, "shards", "0", ("1",)),
        ({"segment_frames": 0}, "segment_frames", "0", ("1",)),
        ({"segment_frames": "2000"}, "segment_frames", "'2000'", ("integer",)),
        ({"videos": []}, "videos", "[]", ("at least one path",)),
        ({"videos": [" "]}, "videos", "[' ']", ("no empty",)),
        ({"videos": [7]}, "videos", "7", ("string",)),
        ({"cache": None}, "cache", "None", ("string",)),
        ({"model": {"entry": "tracker"}}, "model.entry", "'tracker'", ("file.py:name", ".pt2")),
        ({"model": {"batch_size": 0}}, "model.batch_size", "0", ("1",)),
        ({"model": {"batch_size": True}}, "model.batch_size", "True", ("integer",)),
        ({"model": {"size": [480, 0]}}, "model.size", "0", ("1",)),
        ({"model": {"size": [480]}}, "model.size", "[480]", ("two numbers, [height, width]",)),
        ({"model": {"size": [1, 2, 3]}}, "model.size", "[1, 2, 3]", ("two numbers",)),
        ({"model": {"size": 224}}, "model.size", "224", ("two numbers",)),
        ({"model": {"device": "gpu"}}, "model.device", "'gpu'", ("auto", "cpu", "cuda")),
        ({"model": {"channels": "bgr"}}, "model.channels", "'bgr'", ("rgb", "gray")),
        ({"model": {"dtype": "float64"}}, "model.dtype", "'float64'", ("float32", "uint8")),
        ({"output": {"crf": 52}}, "output.crf", "52", ("51",)),
        ({"output": {"crf": -1}}, "output.crf", "-1", ("0",)),
        ({"output": {"video": False}}, "output.video", "False", ("none", "overlay", "frames")),
        ({"output": {"preset": "quick"}}, "output.preset", "'quick'", ("ultrafast", "veryslow")),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(
    data: dict[str, Any], key: str, value: str, allowed: tuple[str, ...]
):
    message = error_of(data)
    assert f"\n  {key}" in message
    assert value in message
    assert all(word in message for word in allowed)


@pytest.mark.parametrize("section", ["model", "output"])
def test_a_section_that_is_no_dictionary_is_named(section: str):
    assert f"\n  {section}: " in error_of({section: 3})


def test_several_errors_are_reported_at_once():
    message = error_of(
        {"shrads": 1, "decoder": "x", "model": {"dtype": "y"}, "output": {"crf": 99}}
    )
    assert all(key in message for key in ("shrads", "decoder", "model.dtype", "output.crf"))
    assert "4 error(s)" in message


def test_torchcodec_with_gray_frames_is_an_error():
    message = error_of({"decoder": "torchcodec"})
    assert "torchcodec" in message
    assert "gray" in message


def test_torchcodec_with_rgb_frames_is_allowed():
    settings = parse_settings({"decoder": "torchcodec", "model": {"channels": "rgb"}})
    assert settings.decoder == "torchcodec"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ({"normalize": {"mean": [0.5]}}, "both mean and std"),
        ({"normalize": {"mean": [0.5], "std": [1.0, 1.0]}}, "1 number"),
        ({"channels": "rgb", "normalize": {"mean": [0.5], "std": [1.0]}}, "3 number"),
        ({"dtype": "uint8", "normalize": {"mean": [0.5], "std": [1.0]}}, "float32"),
        ({"normalize": {"mean": [0.5], "std": [0.0]}}, "std"),
    ],
)
def test_normalize_that_cannot_be_applied_is_an_error(model: dict[str, Any], text: str):
    message = error_of({"model": model})
    assert "normalize" in message
    assert text in message


def test_normalize_takes_whole_numbers():
    normalize = {"mean": [0], "std": [1]}
    assert parse_settings({"model": {"normalize": normalize}}).model.normalize == normalize


def test_one_path_may_stand_for_a_list():
    assert parse_settings({"videos": "a.mp4"}).videos == ["a.mp4"]


def test_a_yaml_file_is_loaded(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("shards: 3\noutput: {video: none}\n")
    settings = load_settings(str(file))
    assert (settings.shards, settings.output.video) == (3, "none")


def test_json_text_is_loaded():
    assert load_settings('{"model": {"size": [32, 48]}}').model.size == (32, 48)


def test_an_empty_file_means_the_defaults(tmp_path: Path):
    file = tmp_path / "empty.yaml"
    file.touch()
    assert load_settings(str(file)) == Settings()


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"a: [1\n", b"\xff\xfe\x00a"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes):
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_settings(str(file))


def test_an_absent_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_settings("nowhere.yaml")


def test_dumped_settings_load_as_they_were():
    settings = parse_settings(
        {
            "videos": ["ä b.mp4"],
            "shards": 7,
            "model": {
                "args": {"n": 2, "names": ["x", "y"]},
                "channels": "rgb",
                "size": [32, 48],
                "normalize": {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]},
            },
            "output": {"crf": 0},
        }
    )
    assert load_settings(dump_settings(settings)) == settings


def test_dumped_defaults_are_empty():
    assert json.loads(dump_settings(Settings())) == {}


def test_only_the_named_keys_are_dumped():
    settings = parse_settings({"shards": 2, "cache": "elsewhere"})
    assert json.loads(dump_settings(settings, "cache", "model")) == {"cache": "elsewhere"}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"codec": "libx265", "preset": "p3"}, "output.preset: libx265 has ultrafast, superfast"),
        (
            {"codec": "h264_nvenc", "preset": "veryslow"},
            "h264_nvenc has fast, medium",
        ),
        (
            {"codec": "h264_nvenc", "pix_fmt": "yuv420p10le"},
            "takes auto, source, yuv420p, yuv444p, got",
        ),
        ({"pix_fmt": "rgb24"}, "output.pix_fmt: libx264 takes auto, source, yuv420p"),
        ({"codec": "mpeg4"}, "output.codec: input should be 'libx264', 'libx265'"),
        ({"options": {"crf": 3}}, "'crf' has a key of its own, output.crf"),
        ({"options": {"bf": [1]}}, "output.options: expected text or a number for 'bf'"),
    ],
    ids=str,
)
def test_an_encoder_that_does_not_take_a_setting_is_an_error(output: Any, message: str):
    with pytest.raises(ConfigError) as caught:
        parse_settings({"output": output})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "output",
    [
        {"codec": "ffv1", "preset": "medium", "pix_fmt": "yuv444p16le"},
        {"codec": "hevc_nvenc", "preset": "p7", "pix_fmt": "yuv420p10le"},
        {"options": {"x264-params": "keyint=50", "bf": 2, "qcomp": 0.7}},
    ],
    ids=str,
)
def test_encoders_take_what_is_theirs(output: Any):
    assert parse_settings({"output": output}).output.codec == output.get("codec", "libx264")
