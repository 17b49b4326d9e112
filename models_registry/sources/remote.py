"""A file on a server: what `http://`, `https://`, `hf://` and `s3://` have in common."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from models_registry.sources.errors import BadSourceError, SourceError


@dataclass(frozen=True)
class Expected:
    """What is known of the file beforehand; None where nothing is."""

    sha256: str | None = None
    size_bytes: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Address:
    """Where the file is to be had now.

    `headers` go to the host of `url` and to no other. `is_configured` tells that an administrator
    chose that host by a setting, and with it whether to encrypt. `only_public` tells that whoever
    chose it may not reach this machine or private networks.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_configured: bool = False
    only_public: bool = False


@dataclass(frozen=True)
class Answer:
    """A server's answer without its body.

    `hops` are the headers of all answers on the way, redirects first and this one last. All
    names of headers are in lower case.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    hops: tuple[Mapping[str, str], ...] = ()


def _refuses_nothing(answer: Answer) -> SourceError | None:  # noqa: ARG001
    return None


def _promises_nothing(answer: Answer) -> Expected:  # noqa: ARG001
    return Expected()


@dataclass(frozen=True)
class Remote:
    """How to ask for one file.

    Attributes:
        url: The source URL, for people and for telling parts of different files apart.
        locate: Gives the address; asked before every request, since signatures expire.
        refusal: What a refusal (status 400 to 499) means there, if that can be said better than
            in general.
        promise: Checksum and size of the whole file, where the answer tells them.
    """

    url: str
    locate: Callable[[], Address]
    refusal: Callable[[Answer], SourceError | None] = _refuses_nothing
    promise: Callable[[Answer], Expected] = _promises_nothing


def is_local(host: str | None) -> bool:
    """Whether a host name or address, as written, means this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_safe_transport(url: str, *, may_be_plain: bool) -> None:
    """Raise `BadSourceError` unless `url` is https, is this machine, or may be plain http."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise BadSourceError(f"{url!r} is not a web address: write https://host/path/model.gguf.")
    if parts.scheme == "http" and not may_be_plain and not is_local(host):
        raise BadSourceError(
            f"{url} is not encrypted: anybody on the way could replace the file. Use https://, or "
            "give the version its sha256."
        )
