"""Keep sources that strangers name away from this machine and private networks.

The address of the connection is checked, too: a name may resolve to another one the second time.
"""

import ipaddress
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from models_registry.sources.errors import BadSourceError

# RFC 6052: the IPv4 address is in the last 32 bits.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_private(address: str) -> bool:
    """Whether an IP address is not on the public Internet: loopback, private, link-local, …"""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            ip = inner
    return not ip.is_global or ip.is_multicast


def is_private_host(url: str) -> bool:
    """Whether the host of `url` has only private addresses; False if it does not resolve."""
    addresses = _addresses(url)
    return bool(addresses) and all(map(is_private, addresses))


def require_public(url: str) -> None:
    """Raise `BadSourceError` if an address of the URL's host is private.

    A name that does not resolve here passes: a proxy may know it.
    """
    if any(map(is_private, _addresses(url))):
        raise _refusal(urlsplit(url).hostname or "")


def _addresses(url: str) -> set[str]:
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # UnicodeError for an impossible name is a ValueError
        return set()
    return {str(entry[4][0]) for entry in found}


def _refusal(host: str) -> BadSourceError:
    return BadSourceError(
        f"{host} is an address of this machine or of a private network, which may be reached "
        "neither by a source given over the API nor by a redirect from outside. Enter the source "
        "in the admin, or set SOURCES_ALLOW_PRIVATE for what is given over the API."
    )


class PublicAdapter(HTTPAdapter):
    """Connects only to public addresses while `only_public` is set."""

    only_public: bool = False

    def restrict(self, only_public: bool) -> None:
        """Set `only_public`, and close connections that were made without it."""
        if only_public and not self.only_public:
            self.close()
        self.only_public = only_public

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        adapter = self

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return adapter.checked(super()._new_conn())

        class Encrypted(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return adapter.checked(super()._new_conn())

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    def checked(self, connection: socket.socket) -> socket.socket:
        peer = str(connection.getpeername()[0])
        if self.only_public and is_private(peer):
            connection.close()
            raise _refusal(peer)
        return connection
