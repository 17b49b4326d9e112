"""From bytes to a typed request or a message that names the fault."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidRequestError
from inference.orders.parsing import UNSUPPORTED, decode_json, parse
from inference.orders.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingsRequest,
    TokenizeRequest,
    TokenRequest,
)

KINDS: list[type[msgspec.Struct]] = [
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    TokenizeRequest,
    DetokenizeRequest,
    TokenRequest,
]
NAMES = sorted(
    {field.encode_name for kind in KINDS for field in msgspec.structs.fields(kind)}
    | set(UNSUPPORTED)
    | {"role", "content", "type", "text", "include_usage"}
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["user", "text", "json_object", "auto", "base64"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=24,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=10)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}


def parse_json(data: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    return parse(decode_json(data, "request body"), kind)


def refused(raw: Any, kind: type[msgspec.Struct] = ChatRequest) -> InvalidRequestError:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(InvalidRequestError) as error:
        parse_json(data, kind)
    return error.value


def attempt(parsing: Callable[[], msgspec.Struct]) -> msgspec.Struct | InvalidRequestError:
    """The result or the refusal; any other exception fails the test."""
    try:
        return parsing()
    except InvalidRequestError as error:
        return error


@given(raw=bodies | values, kind=st.sampled_from(KINDS))
def test_parse_of_any_value_refuses_or_takes_it(raw: Any, kind: type[msgspec.Struct]):
    outcome = attempt(lambda: parse(raw, kind))
    assert isinstance(outcome, (kind, InvalidRequestError))


@given(
    data=st.binary(max_size=60) | bodies.map(lambda body: json.dumps(body).encode()),
    kind=st.sampled_from(KINDS),
)
def test_parse_json_of_any_bytes_refuses_or_takes_them(data: bytes, kind: type[msgspec.Struct]):
    outcome = attempt(lambda: parse_json(data, kind))
    assert isinstance(outcome, (kind, InvalidRequestError))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b"null",
        b'"text"',
        b"1",
    ],
)
def test_parse_json_says_that_it_is_no_json_object(data: bytes):
    error = refused(data)
    assert (error.status, error.code, error.param) == (400, "invalid_json", None)


def test_decode_json_names_the_data():
    with pytest.raises(InvalidRequestError, match="The message is not valid JSON"):
        decode_json("{", "message")


def test_parse_json_takes_the_last_of_duplicate_keys():
    data = b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}'
    assert parse_json(data, ChatRequest).model == "b"


def test_parse_reads_a_whole_number_as_a_float_but_not_the_reverse():
    assert parse(chat(temperature=1), ChatRequest).temperature == 1.0
    assert refused(chat(n=1.0)).param == "n"


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (chat(tempreture=1), "tempreture"),
        (chat(stream=True, stream_options={"usage": True}), "stream_options.usage"),
        (
            {"model": "m", "messages": [{"role": "user", "content": "x", "extra": 1}]},
            "messages[0].extra",
        ),
        (
            {
                "model": "m",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "z": 1}]}],
            },
            "messages[0].content[0].z",
        ),
    ],
)
def test_parse_names_an_unknown_parameter_with_its_path(raw: dict[str, Any], param: str):
    error = refused(raw)
    assert (error.code, error.param) == ("unknown_parameter", param)
    assert repr(param) in error.message


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": [{"content": "x"}]}, "messages[0].role"),
        ({}, "model"),
    ],
)
def test_parse_names_a_missing_parameter_with_its_path(raw: dict[str, Any], param: str):
    error = refused(raw)
    assert (error.code, error.param) == ("missing_parameter", param)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (chat(temperature="hot"), "temperature"),
        (chat(temperature=True), "temperature"),
        (chat(stream="yes"), "stream"),
        (chat(n="2"), "n"),
        (chat(stop=[1]), "stop[0]"),
        (chat(logit_bias={"1": "x"}), "logit_bias[]"),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        ({"model": "m", "messages": "x"}, "messages"),
        ({"model": "m", "messages": [1]}, "messages[0]"),
        ({"model": "m", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        (
            {
                "model": "m",
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}
                ],
            },
            "messages[0].content[0].type",
        ),
    ],
)
def test_parse_names_a_wrong_type_with_its_path(raw: dict[str, Any], param: str):
    error = refused(raw)
    assert (error.code, error.param) == ("invalid_value", param)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_parse_takes_an_unsupported_parameter_only_without_effect(name: str):
    for harmless in (*UNSUPPORTED[name], None):
        assert parse(chat(**{name: harmless}), ChatRequest)
    error = refused(chat(**{name: {"anything": 1}}))
    assert (error.code, error.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(("name", "value"), [("best_of", True), ("suffix", 0), ("tools", {})])
def test_parse_does_not_take_a_lookalike_for_a_harmless_value(name: str, value: object):
    assert refused(chat(**{name: value})).param == name


@pytest.mark.parametrize("name", ["a`b", "a\nb", "$.x", "[...]", "", "\0"])
def test_parse_survives_odd_names(name: str):
    assert refused(chat(**{name: 1})).code == "unknown_parameter"
