"""Check the response to a request for a file or its rest: which bytes of the file it has.

RFC 9110, sections 13.1.5 (If-Range), 14.4 (Content-Range) and 15.3.7 (206).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from models_registry.sources.errors import (
    AccessDeniedError,
    DownloadFailedError,
    SourceError,
    SourceNotFoundError,
)
from models_registry.sources.http.client import InterruptedTransferError
from models_registry.sources.http.remote import TEMPORARY, RemoteFile, ResponseHead

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_MAX_DIGITS: Final = 18


@dataclass(frozen=True)
class BodyRange:
    """The bytes of a file from `start` on; sizes are None if unknown."""

    start: int
    total_bytes: int | None  # of the whole file
    length_bytes: int | None  # from `start` on
    validator: str  # for `If-Range`, or ""


class StartOverError(Exception):
    """This response cannot continue the earlier bytes; the message says why."""


def body_range(response: ResponseHead, remote: RemoteFile, wanted: BodyRange) -> BodyRange:
    """The bytes that the last response, after redirects, has of the `wanted` ones.

    `wanted` starts at the first byte that was requested, and has what earlier responses said of the
    file. Raises `StartOverError` to request the whole file, `InterruptedTransferError` to try again
    later, and `SourceError` if no other try will help.
    """
    if response.status == 200:
        return _whole(response)
    if response.status == 206 and wanted.start:
        return _rest(response, wanted)
    if response.status in (206, 412, 416):
        raise StartOverError(f"{_host(response)} answered {response.status} to byte {wanted.start}")
    if response.status in TEMPORARY:
        raise InterruptedTransferError(
            f"{_host(response)} answered {response.status}", retry_after_seconds(response)
        )
    raise _refusal(response, remote)


def _whole(response: ResponseHead) -> BodyRange:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise DownloadFailedError(
            f"{_host(response)} compresses the file on the way ({encoding}), though it was asked "
            "not to. Take it from another source."
        )
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise DownloadFailedError(
            f"{response.url.partition('?')[0]} is a web page, not a model file. Take the address "
            "of the download itself, or hf://owner/repository/file.gguf for Hugging Face."
        )
    length = _length(response)
    return BodyRange(0, length, length, _validator(response))


def _rest(response: ResponseHead, wanted: BodyRange) -> BodyRange:
    content_range = response.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        raise StartOverError(f"{_host(response)} sent a part without a valid Content-Range")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    length = last - first + 1
    if first != wanted.start or length < 1 or (total is not None and last >= total):
        raise StartOverError(
            f"{_host(response)} sent {content_range!r} to a request from byte {wanted.start}"
        )
    if _length(response) not in (None, length):
        raise StartOverError(f"{_host(response)} contradicts its own Content-Range")
    validator = _validator(response)
    if validator and wanted.validator and validator != wanted.validator:
        raise StartOverError("the file has changed on the server")
    if None not in (total, wanted.total_bytes) and total != wanted.total_bytes:
        raise StartOverError("the file has another size on the server now")
    return BodyRange(first, total or wanted.total_bytes, length, validator)


def _refusal(response: ResponseHead, remote: RemoteFile) -> SourceError:
    known = remote.refusal(response) if 400 <= response.status < 500 else None
    if known is not None:
        return known
    if response.status in (404, 410):
        return SourceNotFoundError(f"{remote.url} does not exist ({response.status}).")
    if response.status in (401, 403):
        return AccessDeniedError(f"{_host(response)} refuses {remote.url} ({response.status}).")
    return DownloadFailedError(
        f"{_host(response)} answered {response.status} to the request for {remote.url}."
    )


def retry_after_seconds(response: ResponseHead, now: datetime | None = None) -> float | None:
    """`Retry-After`, which is in seconds or a date; None without one."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - (now or datetime.now(moment.tzinfo))).total_seconds())


def _length(response: ResponseHead) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _validator(response: ResponseHead) -> str:
    """A strong ETag, else `Last-Modified`: what `If-Range` may have; "" without either."""
    etag = response.headers.get("etag", "")
    return etag if etag.startswith('"') else response.headers.get("last-modified", "")


def _host(response: ResponseHead) -> str:
    return urlsplit(response.url).hostname or "The server"
