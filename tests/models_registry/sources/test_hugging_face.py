"""``hf://`` against a server that imitates ``/resolve/``: tokens, gates, checksums, redirects."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_registry.sources import Access, fetch
from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    ChecksumMismatchError,
    SizeMismatchError,
    SourceNotFoundError,
)
from tests.models_registry.file_server import FileServer, Reply, file_server

DATA = random.Random(8).randbytes(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "hf://owner/some-repo/folder/m q4.gguf"
TOKEN = "hf_secret"


@pytest.fixture
def hub() -> Iterator[FileServer]:
    """Where repositories are; it redirects to the storage."""
    with file_server(b"") as server:
        yield server


@pytest.fixture
def storage() -> Iterator[FileServer]:
    """Another host, where the bytes are."""
    with file_server(DATA, host="127.0.0.2") as server:
        yield server


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def redirect(storage: FileServer, **linked: str) -> Reply:
    """The hub's description of a large file."""
    headers = {"Location": f"{storage.url}/bytes?signed=1"}
    return Reply(status=302, headers=headers | {f"X-Linked-{k}": v for k, v in linked.items()})


def test_hf_file_comes_from_the_storage_and_the_token_does_not_go_there(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    hub.reply(redirect(storage, Etag=f'"{SHA256}"', Size=str(len(DATA))))

    fetched = fetch(URL, destination, access=Access(TOKEN, hub.url))

    assert fetched.sha256 == SHA256
    assert hub.requests[0].path == "/owner/some-repo/resolve/main/folder/m%20q4.gguf"
    assert hub.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in storage.requests[0].headers


def test_hf_token_stays_when_a_repository_was_renamed(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    moved = Reply(status=307, headers={"Location": "/owner/new-name/resolve/main/m.gguf"})
    hub.reply(moved, redirect(storage))

    fetch(URL, destination, access=Access(TOKEN, hub.url))

    assert hub.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


def test_hf_revision_is_asked_for(hub: FileServer, storage: FileServer, destination: Path) -> None:
    hub.reply(redirect(storage))

    fetch(f"{URL}?revision=refs/pr/3", destination, access=Access("", f"{hub.url}/"))

    assert "/resolve/refs%2Fpr%2F3/" in hub.requests[0].path
    assert "authorization" not in hub.requests[0].headers


def test_hf_every_try_begins_at_the_repository(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    hub.reply(redirect(storage))
    storage.reply(Reply(cut_after=1000), Reply())

    fetch(URL, destination, access=Access("", hub.url))

    assert [request.range for request in hub.requests] == [None, "bytes=1000-"]
    assert destination.read_bytes() == DATA


def test_hf_file_replaced_between_two_tries_is_fetched_anew(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    other = b"x" * len(DATA)
    hub.reply(
        redirect(storage, Etag=f'"{SHA256}"'),
        redirect(storage, Etag=f'"{hashlib.sha256(other).hexdigest()}"'),
    )
    storage.reply(Reply(cut_after=1000, etag=""), Reply(data=other, etag=""))

    fetch(URL, destination, access=Access("", hub.url))

    assert destination.read_bytes() == other


def test_hf_file_that_is_not_what_the_hub_promised_is_dropped(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    hub.reply(redirect(storage, Etag=f'"{"0" * 64}"'))

    with pytest.raises(ChecksumMismatchError, match=SHA256):
        fetch(URL, destination, access=Access("", hub.url))

    assert not destination.with_name("m.gguf.part").exists()


def test_hf_checksum_other_than_registered_is_noticed_before_the_first_byte(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    hub.reply(redirect(storage, Etag=f'"{SHA256}"'))
    phases: list[str] = []

    with pytest.raises(ChecksumMismatchError, match="not " + "1" * 64):
        fetch(URL, destination, "1" * 64, lambda *p: phases.append(p[2]),
              access=Access("", hub.url))  # fmt: skip

    assert phases == []


def test_hf_size_other_than_linked_is_an_error_with_the_numbers(
    hub: FileServer, storage: FileServer, destination: Path
) -> None:
    hub.reply(redirect(storage, Size="99999"))

    with pytest.raises(SizeMismatchError, match=r"99999 bytes by .*, 100000 bytes by"):
        fetch(URL, destination, access=Access("", hub.url))


@pytest.mark.parametrize(
    ("status", "code", "token", "reason"),
    [
        (401, "GatedRepo", "", r"some-repo is gated and HF_TOKEN is not set\. Accept its terms"),
        (403, "GatedRepo", TOKEN, "is gated, and the account of HF_TOKEN has no access to it"),
        (401, "RepoNotFound", "", "does not exist, or is private or gated and HF_TOKEN is not set"),
        (401, "", "", "HF_TOKEN is not set"),
        (403, "", "", "HF_TOKEN is not set"),
        (401, "", TOKEN, "HF_TOKEN gives no access to owner/some-repo: the token has expired"),
        (403, "", TOKEN, "HF_TOKEN gives no access"),
    ],
)
def test_hf_closed_repository_says_what_to_do(
    hub: FileServer, destination: Path, status: int, code: str, token: str, reason: str
) -> None:
    hub.reply(Reply(status=status, headers={"X-Error-Code": code}))

    with pytest.raises(AccessDeniedError, match=reason) as caught:
        fetch(URL, destination, access=Access(token, hub.url))

    assert TOKEN not in str(caught.value)
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("EntryNotFound", r"has no file folder/m q4\.gguf at revision main"),
        ("RevisionNotFound", "has no revision main"),
        ("RepoNotFound", "check the name"),
        ("", "check the name"),
    ],
)
def test_hf_missing_file_says_what_is_missing(
    hub: FileServer, destination: Path, code: str, reason: str
) -> None:
    hub.reply(Reply(status=404, headers={"X-Error-Code": code}))

    with pytest.raises(SourceNotFoundError, match=reason):
        fetch(URL, destination, access=Access("", hub.url))


@pytest.mark.parametrize(
    "url",
    [
        "hf://owner/repo",
        "hf://owner/repo/",
        "hf:///repo/m.gguf",
        "hf://owner/repo/../m.gguf",
        "hf://owner/repo/a//m.gguf",
        "hf://owner/repo/m.gguf?rev=1",
        "hf://owner/repo/m.gguf?revision=",
        "hf://owner/repo/m.gguf?revision=../..",
        "hf://own er/repo/m.gguf",
    ],
)
def test_hf_bad_url_says_what_to_write(url: str, destination: Path) -> None:
    with pytest.raises(BadSourceError, match="write hf://owner/repository"):
        fetch(url, destination)


def test_hf_token_is_not_sent_in_clear(destination: Path) -> None:
    with pytest.raises(BadSourceError, match="HF_TOKEN is not sent to http://mirror"):
        fetch(URL, destination, access=Access(TOKEN, "http://mirror.example.org"))


def test_hf_token_is_not_printed() -> None:
    assert TOKEN not in repr(Access(TOKEN))
