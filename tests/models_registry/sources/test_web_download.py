"""Files over HTTP from a server that drops, lies, stalls, changes its mind and redirects."""

import errno
import hashlib
import itertools
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import OperationalError

from models_registry.errors import RegistryError
from models_registry.gguf.reader import GGUFError
from models_registry.sources import Access, check_url, fetch, storage
from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    ChecksumMismatchError,
    DiskFullError,
    DownloadFailedError,
    SizeMismatchError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.http import client, download
from models_registry.sources.http.partial import note_of_part
from models_registry.sources.http.private_networks import is_private
from models_registry.sources.http.retry import RetryPolicy
from tests.models_registry.file_server import FileServer, Reply, file_server

DATA = random.Random(3).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
SPAWN = multiprocessing.get_context("spawn")
_KILLED_AT_BYTES = 65 * 1024 * 1024
OTHER = random.Random(4).randbytes(200_000)


class EnoughError(Exception):
    """Raised by a progress callback."""


class FakeTime:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Every download of the test waits in this time."""
    fake = FakeTime()
    policy = RetryPolicy(
        clock=fake.clock, sleep=fake.sleep, jitter=lambda: 1.0, connect_seconds=5, silence_seconds=5
    )
    monkeypatch.setattr(download, "RetryPolicy", lambda: policy)
    return fake


@pytest.fixture
def server(time: FakeTime) -> Iterator[FileServer]:
    with file_server(DATA) as server:
        yield server


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "m.gguf"


def names(destination: Path) -> set[str]:
    return {path.name for path in destination.parent.iterdir()}


def test_web_file_arrives_whole_with_progress(server: FileServer, destination: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []

    fetched = fetch(f"{server.url}/m.gguf", destination, None, lambda *p: seen.append(p))

    assert destination.read_bytes() == DATA
    assert (fetched.sha256, fetched.size_bytes, fetched.fetched) == (SHA256, len(DATA), True)
    assert seen[0] == (0, len(DATA), "downloading")
    assert seen[-1] == (len(DATA), len(DATA), "downloading")
    assert names(destination) == {"m.gguf", "m.gguf.sha256", ".m.gguf.lock"}
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("cuts", [[0], [1], [100_000], [299_999], [70_000, 1, 0, 65_536]])
def test_web_drops_are_resumed_where_they_happened(
    server: FileServer, destination: Path, cuts: list[int]
) -> None:
    server.reply(*(Reply(cut_after=cut) for cut in cuts), Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA
    offsets = itertools.accumulate(cuts)
    wanted = [None, *(f"bytes={offset}-" if offset else None for offset in offsets)]
    assert [request.range for request in server.requests] == wanted


def test_web_pauses_grow_between_tries(
    server: FileServer, destination: Path, time: FakeTime
) -> None:
    server.reply(*[Reply(cut_after=10)] * 4, Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert time.now == 1 + 2 + 4 + 8


def test_web_gives_up_after_tries_without_progress_and_keeps_the_part(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(cut_after=1000), Reply(cut_after=0))

    with pytest.raises(DownloadFailedError, match=rf"in 6 tries.*1000 of {len(DATA)} bytes"):
        fetch(f"{server.url}/m.gguf", destination)
    server.reply(Reply())
    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA
    assert server.requests[-1].range == "bytes=1000-"


def test_web_cancelled_download_goes_on_next_time(server: FileServer, destination: Path) -> None:
    def cancel(done_bytes: int, *_: object) -> None:
        if done_bytes:
            raise EnoughError

    with pytest.raises(EnoughError):
        fetch(f"{server.url}/m.gguf", destination, None, cancel)
    came = destination.with_name("m.gguf.part").stat().st_size
    assert came
    phases: list[str] = []
    fetch(f"{server.url}/m.gguf", destination, None, lambda *p: phases.append(p[2]))

    assert destination.read_bytes() == DATA
    assert server.requests[-1].range == f"bytes={came}-"
    assert server.requests[-1].headers["if-range"] == '"v1"'
    assert phases[0] == "verifying"  # of the part: its checksum goes on


def test_web_bytes_not_surely_on_the_disk_are_fetched_again(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(cut_after=5000), Reply(status=404))
    with pytest.raises(SourceNotFoundError):
        fetch(f"{server.url}/m.gguf", destination)
    with destination.with_name("m.gguf.part").open("ab") as part:
        part.write(b"never written by the download")
    server.reply(Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA
    assert server.requests[-1].range == "bytes=5000-"


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"source": 5}', '{"synced_bytes": -1}'])
def test_web_part_with_a_damaged_note_starts_over(
    server: FileServer, destination: Path, note: str
) -> None:
    destination.parent.mkdir()
    part = destination.with_name("m.gguf.part")
    part.write_bytes(b"x" * 1000)
    note_of_part(part).write_text(note)

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA


def test_web_part_of_another_source_is_not_continued(server: FileServer, destination: Path) -> None:
    server.reply(Reply(cut_after=5000), Reply(status=404))
    with pytest.raises(SourceNotFoundError):
        fetch(f"{server.url}/other.gguf", destination)
    server.reply(Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert server.requests[-1].range is None


@pytest.mark.parametrize("mishap", [KeyboardInterrupt, OperationalError])
def test_web_part_that_is_whole_is_not_asked_for_again(
    server: FileServer, destination: Path, mishap: type[BaseException]
) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == DATA
        raise mishap

    with pytest.raises(mishap):
        fetch(f"{server.url}/m.gguf", destination, accept=refuse)
    fetch(f"{server.url}/m.gguf", destination)

    assert len(server.requests) == 1


WRONG_RANGES = {
    "whole file": Reply(ignores_range=True),
    "another start": Reply(content_range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
    "a start before": Reply(content_range=f"bytes 999-{len(DATA) - 2}/{len(DATA)}"),
    "another size": Reply(content_range="bytes 1000-1999/2000"),
    "no start": Reply(content_range="bytes */300000"),
    "nonsense": Reply(content_range="a few"),
    "of another length": Reply(content_range=f"bytes 1000-1001/{len(DATA)}"),
    "416": Reply(status=416, content_range=f"bytes */{len(DATA)}"),
    "412": Reply(status=412),
}


@pytest.mark.parametrize("wrong", WRONG_RANGES.values(), ids=WRONG_RANGES.keys())
def test_web_wrong_range_is_not_believed(
    server: FileServer, destination: Path, wrong: Reply
) -> None:
    server.reply(Reply(cut_after=1000), wrong, Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA
    assert server.requests[1].range == "bytes=1000-"


@pytest.mark.parametrize("other", [OTHER, DATA[::-1]], ids=["another size", "the same size"])
@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_web_file_that_changed_is_fetched_anew(
    server: FileServer, destination: Path, ignores_if_range: bool, other: bytes
) -> None:
    changed = Reply(data=other, etag='"v2"', ignores_if_range=ignores_if_range)
    server.reply(Reply(cut_after=1000), changed)

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == other


def test_web_without_any_validator_nothing_is_continued(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(cut_after=1000, etag=""), Reply(etag=""))

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA
    assert [request.range for request in server.requests] == [None, None]


def test_web_with_a_checksum_a_validator_is_not_needed(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(cut_after=1000, etag=""), Reply(etag=""))

    fetch(f"{server.url}/m.gguf", destination, SHA256)

    assert [request.range for request in server.requests] == [None, "bytes=1000-"]


def test_web_last_modified_serves_as_validator(server: FileServer, destination: Path) -> None:
    date = {"Last-Modified": "Tue, 03 Nov 2026 10:00:00 GMT"}
    server.reply(
        Reply(cut_after=1000, etag='W/"weak"', headers=date),
        Reply(etag="", headers=date, ignores_if_range=True),
    )

    fetch(f"{server.url}/m.gguf", destination)

    assert server.requests[1].headers["if-range"] == date["Last-Modified"]
    assert destination.read_bytes() == DATA


def test_web_promise_of_too_much_is_an_error_with_the_numbers(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(promised_bytes=400_000))

    with pytest.raises(DownloadFailedError, match="300000 of 400000 bytes were received"):
        fetch(f"{server.url}/m.gguf", destination)

    assert not destination.exists()


def test_web_promise_of_too_little_is_caught_by_the_registry(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(promised_bytes=1000))

    with pytest.raises(
        SizeMismatchError, match=f"{len(DATA)} bytes by the registry, 1000 bytes by the server"
    ):
        fetch(f"{server.url}/m.gguf", destination, size_bytes=len(DATA))


def test_web_file_longer_than_registered_is_refused_at_its_first_byte_too_many(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(chunked=True))

    with pytest.raises(SizeMismatchError, match="is longer than 1000 bytes"):
        fetch(f"{server.url}/m.gguf", destination, size_bytes=1000)

    assert names(destination) == {".m.gguf.lock"}


def test_web_file_shorter_than_registered_is_refused(server: FileServer, destination: Path) -> None:
    server.reply(Reply(chunked=True))

    with pytest.raises(SizeMismatchError, match=r"ended after 300000 bytes; .*have 300001"):
        fetch(f"{server.url}/m.gguf", destination, size_bytes=len(DATA) + 1)


def test_web_file_of_unknown_size_arrives(server: FileServer, destination: Path) -> None:
    server.reply(Reply(chunked=True, cut_after=200_000), Reply(chunked=True))

    fetch(f"{server.url}/m.gguf", destination)

    assert destination.read_bytes() == DATA


def test_web_wrong_checksum_keeps_nothing(server: FileServer, destination: Path) -> None:
    with pytest.raises(ChecksumMismatchError, match=SHA256):
        fetch(f"{server.url}/m.gguf", destination, "0" * 64)

    assert names(destination) == {".m.gguf.lock"}


@pytest.mark.parametrize("refusal", [GGUFError, RegistryError])
def test_web_file_that_is_not_accepted_is_dropped(
    server: FileServer, destination: Path, refusal: type[Exception]
) -> None:
    def refuse(path: Path) -> None:
        raise refusal("no model")

    with pytest.raises(refusal, match="no model"):
        fetch(f"{server.url}/m.gguf", destination, accept=refuse)

    assert names(destination) == {".m.gguf.lock"}


def test_web_disk_is_measured_before_the_first_byte(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = storage.shutil._ntuple_diskusage(10**9, 10**9, 200_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DiskFullError, match=r"0\.2 MB free, but .* needs 0\.3 MB"):
        fetch(f"{server.url}/m.gguf", destination)


def reserved_bytes(destination: Path) -> int:
    """Disk space of the partial file, which may be less than its length."""
    return destination.with_name("m.gguf.part").stat().st_blocks * 512


def test_web_room_for_the_rest_is_set_aside_until_it_is_cancelled(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(cut_after=10_000, holds=True))
    reserved: list[int] = []

    def cancel(done_bytes: int, *_: object) -> None:
        reserved.append(reserved_bytes(destination))
        if done_bytes:
            raise EnoughError

    with pytest.raises(EnoughError):
        fetch(f"{server.url}/m.gguf", destination, None, cancel)

    assert min(reserved) >= len(DATA)
    assert reserved_bytes(destination) < len(DATA)


def test_web_room_that_is_set_aside_is_not_missed_again(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that has its room needs no more of it when the connection breaks."""
    free = [1_000_000]
    usage = storage.shutil._ntuple_diskusage
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10**9, 0, free[0]))
    server.reply(Reply(cut_after=1000), Reply())

    def fill(*_: object) -> None:
        free[0] = 0

    fetch(f"{server.url}/m.gguf", destination, None, fill)

    assert destination.read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_web_room_that_cannot_be_set_aside(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    free = iter([10**9, 0])
    usage = storage.shutil._ntuple_diskusage
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(10**9, 0, next(free)))
    monkeypatch.setattr(storage, "_fallocate", lambda *_: number)
    if number == errno.ENOSPC:  # somebody else was faster
        with pytest.raises(DiskFullError, match=r"0\.0 MB free, but m\.gguf\.part needs 0\.3 MB"):
            fetch(f"{server.url}/m.gguf", destination)
    else:
        assert fetch(f"{server.url}/m.gguf", destination).fetched


def test_web_short_page_of_a_proxy_does_not_cost_what_has_come(
    server: FileServer, destination: Path
) -> None:
    lie = Reply(data=b"You are not connected.", ignores_range=True, etag='"v2"')
    server.reply(Reply(cut_after=250_000), lie, Reply())

    fetch(f"{server.url}/m.gguf", destination, SHA256)

    assert destination.read_bytes() == DATA
    assert [request.range for request in server.requests[1:]] == ["bytes=250000-"] * 2


def test_web_short_page_that_stays_leaves_what_has_come(
    server: FileServer, destination: Path
) -> None:
    lie = Reply(data=b"You are not connected.", ignores_range=True, etag='"v2"')
    server.reply(Reply(cut_after=250_000), lie)

    with pytest.raises(DownloadFailedError, match=r"contradictory sizes.*250000 of 300000 bytes"):
        fetch(f"{server.url}/m.gguf", destination, size_bytes=len(DATA))

    assert destination.with_name("m.gguf.part").stat().st_size == 250_000


@pytest.mark.parametrize("status", [429, 503])
def test_web_retry_after_is_obeyed(
    server: FileServer, destination: Path, time: FakeTime, status: int
) -> None:
    server.reply(Reply(status=status, headers={"Retry-After": "17"}), Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert time.now == 17


def test_web_retry_after_of_an_hour_is_not_waited_for(
    server: FileServer, destination: Path, time: FakeTime
) -> None:
    server.reply(Reply(status=503, headers={"Retry-After": "3600"}))

    with pytest.raises(SourceUnreachableError, match="no other request for 3600 s"):
        fetch(f"{server.url}/m.gguf", destination)

    assert time.now == 0


def test_web_pause_can_be_cancelled(server: FileServer, destination: Path, time: FakeTime) -> None:
    server.reply(Reply(status=503, headers={"Retry-After": "500"}))

    def cancel(_done: int, _total: int | None, phase: str) -> None:
        if phase == "waiting" and time.now > 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        fetch(f"{server.url}/m.gguf", destination, None, cancel)

    assert time.now < 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, SourceNotFoundError),
        (410, SourceNotFoundError),
        (418, DownloadFailedError),
        (501, DownloadFailedError),
    ],
)
def test_web_refusal_is_final(
    server: FileServer, destination: Path, status: int, kind: type[Exception]
) -> None:
    server.reply(Reply(status=status))

    with pytest.raises(kind):
        fetch(f"{server.url}/m.gguf", destination)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, "is a web page"),
        ({"Content-Encoding": "gzip"}, "compresses the file"),
    ],
)
def test_web_what_is_no_file_is_refused(
    server: FileServer, destination: Path, headers: dict[str, str], reason: str
) -> None:
    server.reply(Reply(headers=headers))

    with pytest.raises(DownloadFailedError, match=reason):
        fetch(f"{server.url}/m.gguf", destination)


def test_web_redirect_is_followed(server: FileServer, destination: Path) -> None:
    server.reply(Reply(status=302, headers={"Location": "/elsewhere.gguf?sig=1"}), Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert [request.path for request in server.requests] == ["/m.gguf", "/elsewhere.gguf?sig=1"]
    assert destination.read_bytes() == DATA


def test_web_endless_redirect_ends(server: FileServer, destination: Path) -> None:
    server.reply(Reply(status=302, headers={"Location": "/again"}))

    with pytest.raises(DownloadFailedError, match="redirects more than 10 times"):
        fetch(f"{server.url}/m.gguf", destination)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/m"])
def test_web_redirect_to_no_web_address_is_refused(
    server: FileServer, destination: Path, target: str
) -> None:
    server.reply(Reply(status=302, headers={"Location": target}))

    with pytest.raises(BadSourceError, match="is not a web address"):
        fetch(f"{server.url}/m.gguf", destination)


def test_web_redirect_to_plain_http_elsewhere_is_refused(
    server: FileServer, destination: Path
) -> None:
    server.reply(Reply(status=302, headers={"Location": "http://192.0.2.1/m.gguf"}))

    with pytest.raises(BadSourceError, match="is not encrypted"):
        fetch(f"{server.url}/m.gguf", destination)


def test_web_redirect_from_outside_leads_to_nobody_inside(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "is_private_host", lambda _url: False)
    server.reply(Reply(status=302, headers={"Location": "/secret"}), Reply())

    with pytest.raises(BadSourceError, match=r"127\.0\.0\.1 is an address of this machine"):
        fetch(f"{server.url}/m.gguf", destination)

    assert [request.path for request in server.requests] == ["/m.gguf"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_web_source_for_public_addresses_does_not_reach_this_machine(
    server: FileServer, destination: Path, host: str
) -> None:
    url = server.url.replace("127.0.0.1", host) + "/m.gguf"

    with pytest.raises(BadSourceError, match="is an address of this machine"):
        fetch(url, destination, SHA256, access=Access(only_public=True))

    assert server.requests == []


def test_web_name_that_resolves_to_the_inside_the_second_time_is_noticed(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "require_public", lambda _url: None)

    with pytest.raises(BadSourceError, match=r"127\.0\.0\.1 is an address of this machine"):
        fetch(f"{server.url}/m.gguf", destination, access=Access(only_public=True))

    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),  # noqa: S104
        ("224.0.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("2002:a00:1::1", True),
        ("1.1.1.1", False),
        ("::ffff:1.1.1.1", False),
        ("2606:4700::1111", False),
    ],
)
def test_web_address_is_judged_by_its_network(address: str, private: bool) -> None:
    assert is_private(address) == private


def test_web_signature_of_a_redirect_is_not_repeated(server: FileServer, destination: Path) -> None:
    target = "http://192.0.2.1/m.gguf?X-Amz-Signature=s3cret"
    server.reply(Reply(status=302, headers={"Location": target}))

    with pytest.raises(BadSourceError, match="is not encrypted") as caught:
        fetch(f"{server.url}/m.gguf", destination)

    assert "s3cret" not in str(caught.value)
    assert "http://192.0.2.1/m.gguf?… is" in str(caught.value)


@pytest.mark.parametrize("text", ["('{}')", '"{}"', "{}", "for {}: no", "{}.", "with url: {} (x)"])
def test_web_errors_quote_addresses_without_queries(text: str) -> None:
    url = "https://host/m.gguf?a=s3cret&b='s3cret"
    if "with url" in text:
        url = url.removeprefix("https://host")
    shown = str(DownloadFailedError(text.format(url)))
    assert "s3cret" not in shown
    assert shown == text.format(url.partition("?")[0] + "?…")


@pytest.mark.parametrize(
    "query", ["token=s3cret", "a=1&X-Amz-Signature=s3cret", "SIG=s3cret", "a=1;api_key=s3cret"]
)
def test_web_address_with_a_secret_is_refused(query: str) -> None:
    with pytest.raises(BadSourceError, match="holds a secret") as caught:
        check_url(f"https://host/m.gguf?{query}")

    assert "s3cret" not in str(caught.value)


def test_web_address_with_a_harmless_query_is_taken() -> None:
    check_url("https://host/m.gguf?download=true&version=3")


def test_web_silence_counts_as_a_drop(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(download.RetryPolicy(), silence_seconds=0.2)
    monkeypatch.setattr(download, "RetryPolicy", lambda: policy)
    server.reply(Reply(cut_after=1000, holds=True), Reply())

    fetch(f"{server.url}/m.gguf", destination)

    assert [request.range for request in server.requests] == [None, "bytes=1000-"]
    assert destination.read_bytes() == DATA


def test_web_host_that_is_not_there_is_named(time: FakeTime, destination: Path) -> None:
    with file_server(b"") as gone:
        url = gone.url

    with pytest.raises(SourceUnreachableError, match=r"127\.0\.0\.1 could not be reached.*refused"):
        fetch(f"{url}/m.gguf", destination)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/m.gguf", "is not encrypted"),
        ("http://localhost.example.org/m.gguf", "is not encrypted"),
        ("https://user:secret@example.org/m.gguf", "user name or password"),
        ("https://example.org/m.gguf#1", "write it as %23"),
        ("https:///m.gguf", "is not a web address"),
        ("https://[::1/m.gguf", "is not a web address"),
        ("https://example.org:port/m.gguf", "is not a web address"),
    ],
)
def test_web_bad_address_says_what_to_write(
    time: FakeTime, destination: Path, url: str, reason: str
) -> None:
    with pytest.raises(BadSourceError, match=reason):
        fetch(url, destination)


def test_web_password_in_an_address_is_not_repeated(destination: Path) -> None:
    with pytest.raises(BadSourceError) as caught:
        fetch("https://user:secret@example.org/m.gguf", destination)

    assert "secret" not in str(caught.value)


def test_web_login_of_netrc_is_not_sent(
    server: FileServer, destination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(server.url) == ("ada", "secret")

    fetch(f"{server.url}/m.gguf", destination)

    assert "authorization" not in server.requests[0].headers


def test_web_proxy_of_the_environment_is_used(
    server: FileServer, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")

    fetch("http://models.localhost/m.gguf", destination)

    assert server.requests[0].path == "http://models.localhost/m.gguf"


def test_web_slow_connection_counts_as_a_drop(
    server: FileServer, destination: Path, time: FakeTime
) -> None:
    def drag(done_bytes: int, *_: Any) -> None:
        if 0 < done_bytes < len(DATA) and len(server.requests) == 1:
            time.now += 1000

    server.reply(Reply(), Reply())
    fetch(f"{server.url}/m.gguf", destination, None, drag)

    assert len(server.requests) == 2
    assert destination.read_bytes() == DATA


def _fetch_until_told(url: str, destination: Path, parent: Connection) -> None:
    def hold(done_bytes: int, *_: object) -> None:
        if done_bytes >= _KILLED_AT_BYTES:
            parent.send(done_bytes)
            parent.recv()

    fetch(url, destination, None, hold)


def test_web_download_of_a_killed_process_is_continued(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(5).randbytes(_KILLED_AT_BYTES + 1_000_000)
    with file_server(data) as server:
        child, far_end = SPAWN.Pipe()
        arguments = (f"{server.url}/m.gguf", destination, far_end)
        process = SPAWN.Process(target=_fetch_until_told, args=arguments)
        process.start()
        try:
            assert child.poll(30)
        finally:
            process.kill()
            process.join()
        fetch(f"{server.url}/m.gguf", destination)

        assert destination.read_bytes() == data
        offset = int(str(server.requests[-1].range).removeprefix("bytes=").removesuffix("-"))
    # What was surely on the disk: all but the last 64 MiB.
    assert 0 < offset <= _KILLED_AT_BYTES


def test_web_two_threads_that_want_one_file_fetch_it_once(
    server: FileServer, destination: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(lambda _: fetch(f"{server.url}/m", destination), range(4)))

    assert sorted(one.fetched for one in fetched) == [False, False, False, True]
    assert len(server.requests) == 1
