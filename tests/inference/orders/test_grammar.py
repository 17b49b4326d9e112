"""Grammars made of ``response_format``, ``grammar`` and ``regex``, and refused ones."""

import json
import re
from typing import Any

import pytest

from inference.errors import InvalidRequestError
from inference.orders.grammar import grammar_of, lark_text
from inference.orders.json_schema import WHITESPACE, read_schema
from inference.orders.parsing import parse
from inference.orders.requests import CompletionRequest
from tests.stack import Api, FakeModel

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": [1, 2]}},
    "required": ["a"],
    "additionalProperties": False,
}
WANTS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}


def request(**fields: Any) -> CompletionRequest:
    return parse({"model": "m", "prompt": "p", **fields}, CompletionRequest)


def schema_in(grammar: str) -> Any:
    """The schema that a grammar consists of."""
    start, text = grammar.split("%json ", maxsplit=1)
    assert start == "start: "
    return json.loads(text)


def refusal(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        grammar_of(request(**fields))
    return caught.value


@pytest.mark.parametrize(
    "fields", [{}, {"response_format": None}, {"response_format": {"type": "text"}}]
)
def test_structured_is_off_unless_asked_for(fields):
    assert grammar_of(request(**fields, ignore_eos=True)) == ("", "")


def test_structured_json_object_is_the_schema_of_any_object():
    grammar, param = grammar_of(request(response_format={"type": "json_object"}))
    schema = schema_in(grammar)
    assert schema.pop("x-guidance") == {"whitespace_pattern": WHITESPACE}
    assert (schema, param) == ({"type": "object"}, "response_format")


def test_structured_schema_is_kept_in_order_and_without_annotations():
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$id": "https://example.com/person",
        "title": "Person",
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "of the person", "default": "Dr"},
            "id": {"const": {"title": 1}},
        },
        "$defs": {"id": {"type": "integer", "examples": [3]}},
        "required": ["id", "title"],
    }
    format_ = {
        "type": "json_schema",
        "json_schema": {"name": "p", "strict": True, "schema": schema},
    }
    read = schema_in(grammar_of(request(response_format=format_))[0])
    del read["x-guidance"]
    assert list(read) == ["type", "properties", "$defs", "required", "additionalProperties"]
    assert read["properties"] == {"title": {"type": "string"}, "id": {"const": {"title": 1}}}
    assert list(read["properties"]) == ["title", "id"]
    assert read["$defs"] == {"id": {"type": "integer"}}


@pytest.mark.parametrize(
    ("regex", "written"),
    [
        ("a|b", "a|b"),
        ("a/b", r"a\/b"),
        (r"a\/b", r"a\/b"),
        (r"\\/", r"\\\/"),
        ("a\nb", r"a\nb"),
        ("a\\\nb", r"a\nb"),
    ],
)
def test_structured_regex_is_written_for_lark(regex, written):
    assert grammar_of(request(regex=regex)) == (f"start: /{written}/", "regex")


def test_structured_schemas_in_a_grammar_are_read_and_lines_keep_their_numbers():
    text = 'start: a\na: %json {\n "title": "x",\n "type": "object"\n}\nb: "}"'
    read = lark_text(text, "grammar")
    assert "title" not in read
    assert '"x-guidance"' in read
    assert read.splitlines()[5] == 'b: "}"'


def test_structured_grammar_without_schemas_stays_as_it_is():
    text = 'start: "%" A\nA: /[stop=]+/ // as it is\n'
    assert lark_text(text, "grammar") == text


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"regex": "a", "grammar": "start: A"}, "regex", "only one"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "regex", "only one"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos", "regex"),
        ({"regex": "a" * 70_000}, "regex", "bytes"),
        ({"regex": ""}, "regex", ""),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "Missing"),
    ],
)
def test_structured_refuses_by_name(fields, param, word):
    error = refusal(**fields)
    assert (error.status, error.param) == (400, param)
    assert word in error.message


def test_structured_names_the_place_of_a_keyword():
    schema: dict[str, Any] = {"properties": {"a": {"items": {"not": {}}}}}
    with pytest.raises(InvalidRequestError, match=r"'tools'.* at properties\.a\.items, .*'not'"):
        read_schema(schema, "tools")


OBJECT = {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(
    ("schema", "place", "closed"),
    [
        (OBJECT, (), True),
        ({"properties": {"o": OBJECT}}, ("properties", "o"), True),
        ({"type": "array", "items": OBJECT}, ("items",), True),
        ({"anyOf": [OBJECT, {"type": "null"}]}, ("anyOf", 0), True),
        ({"$ref": "#/$defs/A", "$defs": {"A": OBJECT}}, ("$defs", "A"), True),
        ({"allOf": [OBJECT]}, ("allOf", 0), True),
        (OBJECT | {"additionalProperties": {}}, (), False),
        (OBJECT | {"patternProperties": {"^b": {}}}, (), False),
        (OBJECT | {"required": ["b"]}, (), False),
        ({"type": "object", "properties": {}}, (), False),
        ({"properties": {"o": {"type": "object", "properties": {}}}}, ("properties", "o"), False),
        ({"allOf": [OBJECT, {"properties": {"b": {}}}]}, ("allOf", 0), False),
        (OBJECT | {"anyOf": [OBJECT]}, ("anyOf", 0), False),
        (
            {"allOf": [{"$ref": "#/$defs/A"}, OBJECT], "$defs": {"A": OBJECT}},
            ("$defs", "A"),
            False,
        ),
    ],
)
def test_structured_closes_objects_that_only_list_properties(schema, place, closed):
    read: Any = read_schema(schema, "response_format")
    for step in place:
        read = read[step]
    assert (read.get("additionalProperties") is False) == closed


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"guided_regex": "a|b"}, "start: /a|b/"),
        ({"structured_outputs": {"regex": "a|b"}}, "start: /a|b/"),
        ({"guided_choice": ["a", 'b"']}, 'start: "a" | "b\\""'),
        ({"structured_outputs": {"choice": ["a"]}}, 'start: "a"'),
    ],
)
def test_structured_reads_the_names_of_other_servers(fields, grammar):
    assert grammar_of(request(**fields))[0] == grammar


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
    ],
)
def test_structured_reads_a_schema_wherever_it_stands(fields):
    assert grammar_of(request(**fields))[0] == grammar_of(request(response_format=WANTS_SCHEMA))[0]


@pytest.mark.parametrize("fields", [{"guided_json": "{"}, {"guided_json": "[1]"}])
def test_structured_refuses_a_text_that_is_no_schema(fields):
    assert refusal(**fields).param == "guided_json"


@pytest.mark.parametrize(
    "fields", [{"guided_choice": []}, {"structured_outputs": {}}, {"guided_json": None}]
)
def test_structured_takes_an_empty_list_for_none(fields):
    assert grammar_of(request(**fields)) == ("", "")


def test_structured_empty_schema_is_any_value():
    assert schema_in(grammar_of(request(guided_json={}))[0]).keys() == {"x-guidance"}


@pytest.mark.parametrize("reference", ["#", "#/properties/a~1b", "#/%24defs/x%20y", "#/items"])
def test_structured_finds_what_a_reference_points_at(reference):
    schema: dict[str, Any] = {
        "properties": {"a/b": {}, "c": {"$ref": reference}},
        "$defs": {"x y": {}},
        "items": {},
    }
    read_schema(schema, "response_format")


@pytest.mark.parametrize(
    "bounds",
    [
        {"exclusiveMinimum": 0},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"exclusiveMinimum": 0.5, "maximum": 0.7},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 0.5},
    ],
)
def test_structured_takes_exclusive_bounds_that_are_enforced(bounds):
    read_schema(bounds, "response_format")


async def test_structured_chat_answers_to_the_schema(api: Api, model: FakeModel):
    body = {"model": model.slug, "messages": [{"role": "user", "content": "Hi"}]}
    format_ = {"response_format": WANTS_SCHEMA, "max_tokens": 200}
    response = await api.post("/v1/chat/completions", body | format_)
    (choice,) = response.json()["choices"]
    assert json.loads(choice["message"]["content"])["a"] in (1, 2)
    assert choice["finish_reason"] == "stop"


async def test_structured_completion_answers_to_the_regex(api: Api, model: FakeModel):
    body = {"model": model.slug, "prompt": "Hi", "regex": "(yes|no)[!]{3}"}
    (choice,) = (await api.post("/v1/completions", body)).json()["choices"]
    assert re.fullmatch("(yes|no)!!!", choice["text"])
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"regex": "["}, "regex"),
        ({"grammar": "start: ("}, "grammar"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"$ref": "#"}},
                }
            },
            "response_format",
        ),
    ],
)
async def test_structured_refuses_what_does_not_compile(api: Api, model: FakeModel, fields, param):
    body = {"model": model.slug, "prompt": "Hi", **fields}
    response = await api.post("/v1/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert "cannot be used" in response.json()["error"]["message"]


async def test_structured_answer_that_cannot_continue_is_a_client_error(api: Api, model: FakeModel):
    """Its grammar takes longer with every token: that shows only on the way."""
    grammar = 'start: s\ns: s s | "a" | "b" | s s s'
    body = {"model": model.slug, "prompt": "Hi", "grammar": grammar, "max_tokens": 1000}
    response = await api.post("/v1/completions", body)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "grammar_failed"
    plain = {"model": model.slug, "prompt": "Hi", "max_tokens": 3}
    assert (await api.post("/v1/completions", plain)).status_code == 200
