"""`file:///path/to/model.gguf`: a file on this machine."""

import os
import stat
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models_registry.sources.errors import BadSourceError, SourceNotFoundError
from models_registry.sources.interface import Access, FileWriter, Target
from models_registry.sources.storage import copy_hashed


def writer(url: str, access: Access) -> FileWriter:  # noqa: ARG001
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise BadSourceError(f"{url!r} is not a file URL: write file:///absolute/path/model.gguf.")
    if parts.query or parts.fragment:
        raise BadSourceError(f"{url!r} has a '?' or '#' in it: write them as %3F and %23.")
    return partial(_copy, Path(path))


def _copy(path: Path, target: Target) -> str:
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
        return copy_hashed(source, target.path, status.st_size, target.on_progress, "copying")
