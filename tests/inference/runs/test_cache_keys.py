"""Keys of cached answers depend on every field that shapes an answer."""

from typing import Any

import msgspec
import pytest

from caching.keys import digest, parts_of
from inference.messages import Generation, SamplingParameters
from inference.orders.requests import ChatRequest
from inference.runs.cached_answers import NOT_ASKING, NOT_SHAPING

ITEM = Generation("run.0", "m@v", [1, 2], 9)


def key_of(item: Generation) -> str:
    return digest(parts_of(item, NOT_SHAPING))


def another(value: Any) -> Any:
    """A value unlike this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, "x")
    if isinstance(value, list):
        return [*value, 3]
    if isinstance(value, dict):
        return {**value, 5: 1.0}
    return 3 if value is None else msgspec.structs.replace(value, temperature=0.3)


@pytest.mark.parametrize("name", Generation.__struct_fields__)
def test_key_changes_with_each_field_but_those_named(name: str) -> None:
    changed = msgspec.structs.replace(ITEM, **{name: another(getattr(ITEM, name))})
    assert (key_of(changed) == key_of(ITEM)) == (name in NOT_SHAPING)


@pytest.mark.parametrize("name", SamplingParameters.__struct_fields__)
def test_key_changes_with_each_parameter_of_sampling(name: str) -> None:
    sampling = msgspec.structs.replace(
        ITEM.sampling, **{name: another(getattr(ITEM.sampling, name))}
    )
    assert key_of(msgspec.structs.replace(ITEM, sampling=sampling)) != key_of(ITEM)


def test_fields_that_are_left_out_exist() -> None:
    assert set(ChatRequest.__struct_fields__) >= NOT_ASKING
    with pytest.raises(ValueError, match="no field nonsense"):
        parts_of(ITEM, {"nonsense"})
