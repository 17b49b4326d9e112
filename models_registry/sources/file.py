"""`file:///path/to/model.gguf`: a file that is already on this machine."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models_registry.sources.errors import BadSourceError, SourceNotFoundError
from models_registry.sources.progress import ProgressCallback
from models_registry.sources.storage import copy_hashed


def obtain(
    url: str,
    part: Path,
    _scratch: Path,
    on_progress: ProgressCallback,
    _size_bytes: int | None,
) -> str:
    """Copy the file to `part`; answer its sha256 (hex).

    Raises:
        SourceError: The URL is malformed, or the file is missing, unreadable or too large.
    """
    path = parse(url)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SourceNotFoundError(f"{path} cannot be read: {error.strerror}.") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise SourceNotFoundError(f"{path} is not a regular file; name the model file itself.")
    with os.fdopen(descriptor, "rb") as source:
        return copy_hashed(source, part, status.st_size, on_progress, "copying")


def parse(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise BadSourceError(f"{url!r} is not a file URL: write file:///absolute/path/model.gguf.")
    if parts.query or parts.fragment:
        raise BadSourceError(f"{url!r} has a '?' or '#' in it: write them as %3F and %23.")
    return Path(path)
