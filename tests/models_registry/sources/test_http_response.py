"""Responses to requests for a file or its rest."""

from datetime import UTC, datetime

import pytest

from models_registry.sources.http.remote import RemoteFile, ResponseHead
from models_registry.sources.http.response import (
    BodyRange,
    StartOverError,
    body_range,
    retry_after_seconds,
)

REMOTE = RemoteFile("https://host/m")
FROM_START = BodyRange(0, None, None, "")


def rest(content_range: str, total_bytes: int | None = None, **headers: str) -> BodyRange:
    """The body of the response to a request from byte 100 on."""
    fields = {"content-range": content_range, **headers}
    return body_range(
        ResponseHead("https://host/m", 206, fields), REMOTE, BodyRange(100, total_bytes, None, "")
    )


def test_rest_tells_where_it_begins_and_how_much_there_is() -> None:
    assert rest("bytes 100-199/200", etag='"a"') == BodyRange(100, 200, 100, '"a"')


def test_rest_may_be_less_than_was_asked_for() -> None:
    assert rest("bytes 100-149/200") == BodyRange(100, 200, 50, "")


def test_rest_of_unknown_size_takes_it_from_what_is_known() -> None:
    assert rest("bytes 100-199/*", 200).total_bytes == 200
    assert rest("bytes 100-199/*").total_bytes is None


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes 0-199/200",
        "bytes 101-199/200",
        "bytes 100-99/200",
        "bytes 100-200/200",
        "bytes 100-199/199",
        "bytes -100-199/200",
        "bytes 100-199/200, 0-1/200",
        "items 100-199/200",
        f"bytes 100-{10**30}/{10**31}",
    ],
)
def test_rest_that_is_not_what_was_asked_for_is_no_rest(content_range: str) -> None:
    with pytest.raises(StartOverError):
        rest(content_range)


def test_part_that_nobody_asked_for_is_not_taken() -> None:
    headers = {"content-range": "bytes 0-199/200"}
    with pytest.raises(StartOverError):
        body_range(ResponseHead("https://host/m", 206, headers), REMOTE, FROM_START)


@pytest.mark.parametrize("length", ["-1", "١٢", "1e3", "9" * 30, ""])
def test_length_that_is_none_is_unknown(length: str) -> None:
    body = body_range(
        ResponseHead("https://host/m", 200, {"content-length": length}), REMOTE, FROM_START
    )
    assert body.total_bytes is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    response = ResponseHead("https://host/m", 503, {"retry-after": text})
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert retry_after_seconds(response, now) == seconds
