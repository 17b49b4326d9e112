"""What an answer to a request for a file, or for the rest of it, is worth: pure rules.

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
from models_registry.sources.remote import Answer, Remote
from models_registry.sources.web_client import InterruptedTransferError

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_MAX_DIGITS: Final = 18


@dataclass(frozen=True)
class Body:
    """What an answer's body is: the file from `start` on.

    `total_bytes` is the size of the whole file, `length_bytes` that of this body, where known;
    `validator` is what tells this file from a later one at the same place, "" for nothing.
    """

    start: int
    total_bytes: int | None
    length_bytes: int | None
    validator: str


class StartOverError(Exception):
    """What came before cannot be continued with this answer; the message says why."""


def body_of(answer: Answer, remote: Remote, asked_from: int, known: Body | None) -> Body:
    """Judge an answer.

    Args:
        answer: The last of the way, redirects done.
        remote: The file that was asked for.
        asked_from: First byte that the request's `Range` named; 0 for a request without.
        known: What earlier answers said of the file, if bytes of it are kept.

    Raises:
        StartOverError: Ask again, for the whole file.
        InterruptedTransferError: Ask again, later.
        SourceError: Do not ask again.
    """
    if answer.status == 200:
        return _whole(answer)
    if answer.status == 206 and asked_from:
        return _rest(answer, asked_from, known)
    if answer.status in (206, 412, 416):
        raise StartOverError(f"{_host(answer)} answered {answer.status} to byte {asked_from}")
    if answer.status in _PASSING:
        raise InterruptedTransferError(
            f"{_host(answer)} answered {answer.status}", retry_after_seconds(answer)
        )
    raise _refusal(answer, remote)


def _whole(answer: Answer) -> Body:
    encoding = answer.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise DownloadFailedError(
            f"{_host(answer)} compresses the file on the way ({encoding}), though it was asked "
            "not to. Take it from another source."
        )
    if answer.headers.get("content-type", "").lower().startswith("text/html"):
        raise DownloadFailedError(
            f"{answer.url.partition('?')[0]} is a web page, not a model file. Take the address "
            "of the download itself, or hf://owner/repository/file.gguf for Hugging Face."
        )
    length = _length(answer)
    return Body(0, length, length, _validator(answer))


def _rest(answer: Answer, asked_from: int, known: Body | None) -> Body:
    content_range = answer.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        raise StartOverError(f"{_host(answer)} sent a range without saying which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    length = last - first + 1
    if first != asked_from or length < 1 or (total is not None and last >= total):
        raise StartOverError(
            f"{_host(answer)} sent {content_range!r} when byte {asked_from} was due"
        )
    if _length(answer) not in (None, length):
        raise StartOverError(f"{_host(answer)} sent a range of another length than it said")
    validator = _validator(answer)
    if known is not None:
        if validator and known.validator and validator != known.validator:
            raise StartOverError("the file has changed on the server")
        if None not in (total, known.total_bytes) and total != known.total_bytes:
            raise StartOverError("the file has another size on the server now")
        total = total or known.total_bytes
    return Body(first, total, length, validator)


def _refusal(answer: Answer, remote: Remote) -> SourceError:
    known = remote.refusal(answer) if 400 <= answer.status < 500 else None
    if known is not None:
        return known
    if answer.status in (404, 410):
        return SourceNotFoundError(f"There is no {remote.url} ({_host(answer)} says so).")
    if answer.status in (401, 403):
        return AccessDeniedError(f"{_host(answer)} refuses {remote.url} ({answer.status}).")
    return DownloadFailedError(
        f"{_host(answer)} answered {answer.status} to the request for {remote.url}."
    )


def retry_after_seconds(answer: Answer, now: datetime | None = None) -> float | None:
    """What the answer's `Retry-After` asks for, as seconds or as a date; None without one."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - (now or datetime.now(moment.tzinfo))).total_seconds())


def _length(answer: Answer) -> int | None:
    text = answer.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _validator(answer: Answer) -> str:
    """A strong ETag, else the date of the last change: what `If-Range` may carry."""
    etag = answer.headers.get("etag", "")
    return etag if etag.startswith('"') else answer.headers.get("last-modified", "")


def _host(answer: Answer) -> str:
    return urlsplit(answer.url).hostname or "The server"
