"""``s3://`` against a server that speaks S3's protocol."""

import hashlib
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.httpsession
import botocore.session
import pytest
from moto.server import ThreadedMotoServer

from models_registry.sources import Access, fetch
from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    ChecksumMismatchError,
    SizeMismatchError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.http import download
from models_registry.sources.http.partial import PartialFile
from models_registry.sources.http.remote import ResponseHead
from models_registry.sources.http.retry import RetryPolicy
from models_registry.sources.readers.s3 import S3Object

DATA = random.Random(9).randbytes(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "s3://models/folder/m 1.gguf"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of a server that has the file."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    client = botocore.session.get_session().create_client("s3")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="folder/m 1.gguf", Body=DATA, ChecksumAlgorithm="SHA256")
    return client


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def test_s3_object_arrives_whole(s3: Any, destination: Path) -> None:
    fetched = fetch(URL, destination, SHA256, size_bytes=len(DATA))

    assert destination.read_bytes() == DATA
    assert fetched.sha256 == SHA256


def test_s3_download_is_resumed(s3: Any, destination: Path) -> None:
    class EnoughError(Exception):
        pass

    def cancel(done_bytes: int, *_: object) -> None:
        if done_bytes:
            raise EnoughError

    with pytest.raises(EnoughError):
        fetch(URL, destination, None, cancel)
    came = destination.with_name("m.gguf.part").stat().st_size
    seen: list[tuple[int, int | None, str]] = []
    fetch(URL, destination, None, lambda *p: seen.append(p))

    assert 0 < came < len(DATA)
    assert (came, len(DATA), "downloading") in seen
    assert destination.read_bytes() == DATA


def test_s3_object_replaced_in_between_is_fetched_anew(s3: Any, destination: Path) -> None:
    class EnoughError(Exception):
        pass

    def cancel(done_bytes: int, *_: object) -> None:
        if done_bytes:
            raise EnoughError

    with pytest.raises(EnoughError):
        fetch(URL, destination, None, cancel)
    other = bytes(reversed(DATA))
    s3.put_object(Bucket="models", Key="folder/m 1.gguf", Body=other)
    fetch(URL, destination)

    assert destination.read_bytes() == other


def test_s3_checksum_of_the_server_is_compared_first(s3: Any, destination: Path) -> None:
    seen: list[Any] = []

    with pytest.raises(ChecksumMismatchError, match=f"{SHA256}, not {'0' * 64}"):
        fetch(URL, destination, "0" * 64, lambda *p: seen.append(p))

    assert seen == []


def test_s3_file_that_comes_damaged_is_noticed_by_its_etag(
    s3: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="models", Key="plain.gguf", Body=DATA)
    real = PartialFile.append
    monkeypatch.setattr(PartialFile, "append", lambda part, data: real(part, data[:-1] + b"!"))

    with pytest.raises(ChecksumMismatchError, match="arrived damaged: its MD5 is"):
        fetch("s3://models/plain.gguf", destination)

    assert not destination.with_name("m.gguf.part").exists()


def test_s3_etag_is_not_needed_where_a_checksum_is_known(
    s3: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket="models", Key="plain.gguf", Body=DATA)
    monkeypatch.setattr(download, "require_md5", lambda *_: pytest.fail("hashed"))
    fetch("s3://models/plain.gguf", destination, SHA256)


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({}, True),
        ({"x-amz-server-side-encryption": "AES256"}, True),
        ({"x-amz-server-side-encryption": "aws:kms"}, False),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
        ({"etag": '"0123456789abcdef0123456789abcdef-2"'}, False),
        ({"etag": 'W/"0123456789abcdef0123456789abcdef"'}, False),
    ],
)
def test_s3_etag_is_an_md5_only_of_what_came_in_one_piece_without_a_key(
    headers: dict[str, str], is_known: bool
) -> None:
    etag = {"etag": '"0123456789abcdef0123456789abcdef"'}
    declared = S3Object(URL, Access()).declared(ResponseHead("", 200, etag | headers))
    assert (declared.md5 is not None) == is_known


def test_s3_size_other_than_registered_is_an_error_with_the_numbers(
    s3: Any, destination: Path
) -> None:
    with pytest.raises(SizeMismatchError, match="5 bytes by the registry, 200000 bytes by"):
        fetch(URL, destination, size_bytes=5)


@pytest.mark.parametrize("url", ["s3://models/nothing.gguf", "s3://no-such-bucket/m.gguf"])
def test_s3_missing_object_is_named(s3: Any, destination: Path, url: str) -> None:
    with pytest.raises(SourceNotFoundError, match=url):
        fetch(url, destination)


def test_s3_without_credentials_says_which(
    s3: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(AccessDeniedError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        fetch(URL, destination)


@pytest.mark.parametrize("url", ["s3://models", "s3://models/", "s3:///m.gguf", "s3://m/folder/"])
def test_s3_bad_url_says_what_to_write(url: str, destination: Path) -> None:
    with pytest.raises(BadSourceError, match="write s3://bucket"):
        fetch(url, destination)


def test_s3_bucket_that_no_bucket_can_be_called_is_refused(s3: Any, destination: Path) -> None:
    with pytest.raises(BadSourceError, match="is not an S3 source"):
        fetch("s3://-%20-/m.gguf", destination)


def test_s3_that_is_not_there_is_named(
    s3: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    policy = RetryPolicy(sleep=_no_sleep, attempts=1)
    monkeypatch.setattr(download, "RetryPolicy", lambda: policy)

    with pytest.raises(SourceUnreachableError, match="check AWS_ENDPOINT_URL"):
        fetch(URL, destination)


def _no_sleep(_seconds: float) -> None:
    return


def test_s3_that_is_silent_is_asked_again_by_the_downloader_with_signs_of_life(
    s3: Any, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = botocore.httpsession.URLLib3Session.send

    def silent_at_first(session: Any, request: Any) -> Any:
        asked.append(request)
        if len(asked) < 4:
            raise botocore.exceptions.ReadTimeoutError(endpoint_url="http://s3")
        return real(session, request)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", silent_at_first)
    now = iter(range(10_000))
    policy = RetryPolicy(clock=lambda: next(now) / 10, sleep=_no_sleep)
    monkeypatch.setattr(download, "RetryPolicy", lambda: policy)
    seen: list[tuple[int, str]] = []

    fetch(URL, destination, None, lambda _done, _total, phase: seen.append((len(asked), phase)))

    # After each question there was a sign of life before the next.
    assert {(1, "waiting"), (2, "waiting"), (3, "waiting")} <= set(seen)
    assert destination.read_bytes() == DATA
