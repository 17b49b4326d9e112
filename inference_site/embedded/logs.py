"""Log files of child processes: rotated when opened; their last lines for error messages."""

from pathlib import Path
from typing import BinaryIO

_LARGEST_BYTES = 10 * 1024 * 1024


def open_log(path: Path, largest_bytes: int = _LARGEST_BYTES) -> BinaryIO:
    """Open ``path`` for appending; a file over ``largest_bytes`` becomes ``<path>.1`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > largest_bytes:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab", buffering=0)


def last_lines(path: Path, count: int = 15, since_bytes: int = 0) -> str:
    """Return the last ``count`` lines of ``path`` after its first ``since_bytes`` bytes."""
    if not path.is_file():
        return f"({path} was not written)"
    with path.open("rb") as file:
        file.seek(max(since_bytes, path.stat().st_size - 64 * 1024))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:]) or f"({path} is empty)"
