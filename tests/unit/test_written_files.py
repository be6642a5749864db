"""Files that are written from the settings and from requirements.lock are up to date."""

from __future__ import annotations

import jsonschema
import pytest
import write_settings
import yaml

SCHEMA = yaml.safe_load(write_settings.schema())


@pytest.mark.parametrize("name", sorted(write_settings.written()))
def test_a_written_file_is_up_to_date(name: str) -> None:
    text = (write_settings.REPOSITORY / name).read_text(encoding="utf-8")
    assert text == write_settings.written()[name], "run python tests/write_settings.py"


@pytest.mark.parametrize("name", ["config.yaml", "config/config.yaml", ".test/config/config.yaml"])
def test_the_schema_allows_the_configurations_that_are_shipped(name: str) -> None:
    text = (write_settings.REPOSITORY / name).read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(text), SCHEMA)


@pytest.mark.parametrize(
    "data",
    [{"video": ["a"]}, {"shards": 0}, {"output": {"crf": 52}}, {"model": {"device": "gpu"}}],
)
def test_the_schema_refuses_what_the_settings_refuse(data: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)
