"""Schemas of any kind are read or refused, strictly or leniently."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidRequestError
from inference.orders.json_schema import read_leniently, read_schema, relaxations, schema_text

KEYWORDS = [
    *("type", "properties", "required", "items", "prefixItems", "additionalProperties", "$ref"),
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "$defs", "enum", "const", "minItems"),
    *("minimum", "exclusiveMinimum", "minProperties", "pattern", "format", "nullable", "x-order"),
    *("patternProperties", "unevaluatedProperties", "dependentRequired", "a"),
]
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
words = st.sampled_from(["object", "array", "string", "#", "#/$defs/a", "#/properties/a", "a"])
values = st.recursive(
    scalars | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=5)
    ),
    max_leaves=20,
)
schemas = st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=6)


@given(schema=schemas)
def test_schema_of_any_values_is_read_or_refused(schema: dict[str, Any]):
    with contextlib.suppress(InvalidRequestError):
        assert schema_text(read_schema(schema, "response_format"))


@given(schema=schemas)
def test_schema_of_any_values_is_read_leniently(schema: dict[str, Any]):
    enforced = read_leniently(schema, "tools")
    for one in (enforced, *relaxations(enforced)):
        assert schema_text(one.schema)
    if not enforced.unenforced:
        assert read_schema(schema, "tools") == enforced.schema


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("keyword", ["type", "$ref", "minItems", "default", "required", "enum"])
def test_schema_that_is_nested_too_deeply_is_refused(keyword: str):
    with pytest.raises(InvalidRequestError):
        read_schema({keyword: nested(900)}, "response_format")


def test_schema_with_a_lone_surrogate_is_refused():
    with pytest.raises(InvalidRequestError, match="surrogate"):
        read_schema({"const": "\ud800"}, "grammar")


def test_schema_keeps_no_keyword_that_json_schema_does_not_define():
    schema = {"nullable": True, "maximun": 3, "x-guidance": {"lenient": True}, "type": "integer"}
    assert read_schema(schema, "response_format") == {"type": "integer"}


def test_schema_with_a_boolean_bound_has_the_number_that_it_means():
    schema = {"minimum": 3, "exclusiveMinimum": True, "maximum": 5, "exclusiveMaximum": False}
    assert read_schema(schema, "response_format") == {"exclusiveMinimum": 3, "maximum": 5}


ADDRESS = {"type": "object", "properties": {"street": {}}, "required": ["street"]}
NOTE = {"type": "object", "properties": {"note": {}}, "required": ["note"]}


def test_schema_that_is_referred_to_from_a_combination_stays_open():
    shipping = {"allOf": [{"$ref": "#/properties/billing"}, NOTE]}
    schema = {"properties": {"billing": ADDRESS, "shipping": shipping, "other": NOTE}}
    read = read_schema(schema, "response_format")
    assert "additionalProperties" not in read["properties"]["billing"]
    assert read["properties"]["other"]["additionalProperties"] is False


def test_schema_within_a_combination_stays_open():
    first, second = ({"properties": {"o": inner}} for inner in (ADDRESS, NOTE))
    read = read_schema({"allOf": [first, second]}, "response_format")
    for branch in read["allOf"]:
        assert "additionalProperties" not in branch["properties"]["o"]


@pytest.mark.parametrize(
    ("fields", "closed"),
    [
        ({"not": {"required": ["b"]}}, True),
        ({"dependentRequired": {"street": []}}, True),
        ({"unevaluatedProperties": False}, True),
        ({"unevaluatedProperties": {}}, False),
        ({"anyOf": [{"required": ["street"]}, {"required": []}]}, True),
        ({"anyOf": [{"properties": {"b": {}}}]}, False),
        ({"if": {}, "then": {"properties": {"b": {}}}}, False),
        ({"dependentSchemas": {"street": {"properties": {"b": {}}}}}, False),
    ],
)
def test_schema_without_an_unenforced_keyword_is_closed(fields: dict[str, Any], closed: bool):
    read = read_leniently(ADDRESS | fields, "tools").schema
    assert (read.get("additionalProperties") is False) == closed
