"""Options that an encoder refuses are found without a video."""

from __future__ import annotations

from typing import Any

import pytest

from pvio.config.settings import parse_settings
from pvio.errors import ConfigError
from pvio.media.encode.check import check_encoder


def check(codec: str, options: dict[str, Any], pix_fmt: str = "auto") -> None:
    output = {"codec": codec, "options": options, "pix_fmt": pix_fmt}
    check_encoder(parse_settings({"output": output}).output)


@pytest.mark.parametrize(
    ("codec", "options", "text"),
    [
        ("libx264", {"bff": 2}, "unknown option bff"),
        ("libx264", {"bf": "many"}, 'Unable to parse "bf" option value "many"'),
        ("libx264", {"b": -5}, "out of range"),
        ("libx264", {"tune": "flim"}, "Error setting preset/tune medium/flim"),
        ("libx264", {"x264-params": "keyin=5"}, "Error parsing option 'keyin = 5'"),
        ("libx264", {"x264-params": "keyint=abc"}, "Error parsing option 'keyint = abc'"),
        ("libx265", {"x265-params": "foo=1"}, "Unknown option: foo"),
        ("libx265", {"x265-params": "bframes=x"}, "Invalid value for bframes: x"),
        ("ffv1", {"coder": "x"}, 'Unable to parse "coder"'),
        ("ffv1", {"preset_": 1}, "unknown option preset_"),
    ],
)
def test_what_an_encoder_refuses_is_an_error(codec: str, options: dict[str, Any], text: str):
    with pytest.raises(ConfigError) as caught:
        check(codec, options)
    assert str(caught.value).startswith("output.options: ")
    assert text in str(caught.value)
    assert str(options) in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": 2, "qcomp": 0.7, "x264-params": "keyint=50"}),
        ("libx264", {"profile": "high422"}),
        ("libx265", {"profile": "main444-8"}),  # of some formats only
        ("ffv1", {"slices": 4}),
        ("h264_nvenc", {"whatever": 1}),  # a node with a GPU will show
    ],
)
def test_what_it_takes_for_some_frames_is_none(codec: str, options: dict[str, Any]):
    check(codec, options)
