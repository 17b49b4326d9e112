"""A file on a web server: what `https://`, `hf://` and `s3://` have in common."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from models_registry.sources.errors import BadSourceError, SourceError

# Another try may succeed after a response with one of these statuses.
TEMPORARY: Final = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Expected:
    """Checksums (hex) and size of the whole file; None where unknown."""

    sha256: str | None = None
    size_bytes: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Address:
    """Where to request the file now."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # for this host only
    is_configured: bool = False  # an administrator set this host, and with it whether to encrypt
    only_public: bool = False  # refuse this machine and private networks


@dataclass(frozen=True)
class ResponseHead:
    url: str
    status: int
    headers: Mapping[str, str]  # names in lower case
    hops: tuple[Mapping[str, str], ...] = ()  # headers of the redirects and of this response


class RemoteFile:
    """A file on a web server; subclasses know the server's addresses, headers and errors."""

    def __init__(self, url: str) -> None:
        self.url = url

    def locate(self) -> Address:
        """The address for the next request; it may be signed and expire."""
        return Address(self.url)

    def refusal(self, response: ResponseHead) -> SourceError | None:
        """An error for a response with status 400 to 499, better than the general one."""
        return None

    def declared(self, response: ResponseHead) -> Expected:
        """Checksums and size of the whole file, where the response has them."""
        return Expected()


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address, as written, means this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_safe_transport(url: str, *, allow_plain: bool) -> None:
    """Raise `BadSourceError` unless `url` is https, this machine, or plain HTTP is allowed."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise BadSourceError(f"{url!r} is not a web address: write https://host/path/model.gguf.")
    if parts.scheme == "http" and not allow_plain and not is_loopback(host):
        raise BadSourceError(
            f"{url} is not encrypted: anybody on the way could replace the file. Use https://, or "
            "give the version its sha256."
        )
