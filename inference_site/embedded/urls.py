"""Addresses of the embedded servers of a home; pure, so that settings can call it."""

import hashlib
from pathlib import Path
from urllib.parse import quote

DATABASE_NAME = "brigade"
DATABASE_USER = "postgres"
DATABASE_PORT = 5432  # names the socket file only; no TCP port is opened
# The kernel's limit for a socket's path is 108 bytes on Linux and 104 on macOS; the longest name
# in the directory takes 20 of them.
_LONGEST_DIRECTORY_BYTES = 80


def socket_directory(home: Path) -> Path:
    """Return the directory of the sockets: in ``home``, or in /tmp when that path is too long."""
    directory = home.resolve() / "sockets"
    if len(str(directory).encode()) <= _LONGEST_DIRECTORY_BYTES:
        return directory
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    return Path("/tmp") / f"brigade-{digest}" / "sockets"  # noqa: S108 - owner checked at start


def embedded_urls(home: Path) -> tuple[str, str]:
    """Return ``(DATABASE_URL, REDIS_URL)`` of the embedded servers of ``home``."""
    directory = quote(str(socket_directory(home)), safe="")
    database_url = f"postgresql://{DATABASE_USER}@:{DATABASE_PORT}/{DATABASE_NAME}?host={directory}"
    redis_path = quote(str(socket_directory(home) / "valkey.sock"))
    return database_url, f"unix://{redis_path}?db=0"
