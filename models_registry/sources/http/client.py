"""GET with requests: safe redirects, proxies from the environment, undecoded bytes."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from models_registry.sources.errors import DownloadFailedError, SourceUnreachableError
from models_registry.sources.http.private_networks import (
    PublicAdapter,
    is_private_host,
    require_public,
)
from models_registry.sources.http.remote import Address, ResponseHead, require_safe_transport
from models_registry.sources.http.retry import RetryPolicy

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_MAX_REDIRECTS: Final = 10
_CHUNK_BYTES: Final = 1024 * 1024


class InterruptedTransferError(Exception):
    """The connection failed, and another try may succeed; the message says how it failed."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class StreamedResponse:
    def __init__(self, head: ResponseHead, body: Any, host: str) -> None:
        self.head = head
        self._body = body
        self._host = host

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, undecoded. Raises ``InterruptedTransferError``."""
        with _transport_errors(self._host):
            # read1 returns the bytes that have arrived instead of waiting for a whole chunk.
            while chunk := self._body.read1(_CHUNK_BYTES):
                yield chunk


class WebClient:
    """One session for all tries of one download."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._timeout = (policy.connect_seconds, policy.silence_seconds)
        self._session = requests.Session()
        # Keeps requests from sending a login of ~/.netrc in place of our own header.
        self._session.auth = lambda request: request
        self._adapter = PublicAdapter()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, self._adapter)
        # Ranges and checksums count uncompressed bytes.
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "brigade"})

    def close(self) -> None:
        self._session.close()

    @contextmanager
    def get(
        self, address: Address, headers: Mapping[str, str], *, allow_plain: bool
    ) -> Iterator[StreamedResponse]:
        """Request `address` and follow redirects, with `headers` for every host on the way.

        The headers of `address` are sent only to its own host. A public host cannot redirect to
        this machine or a private network. Unencrypted HTTP is possible if `allow_plain` is set, and
        to a configured host. Raises `InterruptedTransferError` if another try may help.
        """
        url, hops = address.url, []
        only_public = address.only_public and not address.is_configured
        for _ in range(_MAX_REDIRECTS):
            is_home = _origin(url) == _origin(address.url)
            is_trusted = allow_plain or (is_home and address.is_configured)
            require_safe_transport(url, allow_plain=is_trusted)
            if only_public:
                require_public(url)
            self._adapter.restrict(only_public)
            own = address.headers if is_home else {}
            with _transport_errors(_origin(url)[1]):
                response = self._session.get(
                    url,
                    headers={**headers, **own},
                    stream=True,
                    allow_redirects=False,
                    timeout=self._timeout,
                )
            with response:
                hops.append({name.lower(): text for name, text in response.headers.items()})
                target = hops[-1].get("location")
                if response.status_code not in _REDIRECTS or not target:
                    head = ResponseHead(url, response.status_code, hops[-1], tuple(hops))
                    yield StreamedResponse(head, response.raw, _origin(url)[1])
                    return
                only_public = only_public or not is_private_host(url)
                url = urljoin(url, target)
        raise DownloadFailedError(
            f"{_origin(address.url)[1]} redirects more than {_MAX_REDIRECTS} times. Check the URL."
        )


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname or "", port
    except ValueError:
        return "", "", None


@contextmanager
def _transport_errors(host: str) -> Iterator[None]:
    """Translate exceptions of requests and urllib3."""
    try:
        yield
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise SourceUnreachableError(
            f"{host} has no valid certificate ({_root(error)}). If it is from your "
            "own authority, name that authority's file in REQUESTS_CA_BUNDLE."
        ) from error
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise InterruptedTransferError(f"{host} sent no more data") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise DownloadFailedError(f"The address cannot be used: {_root(error)}") from error
    except requests.exceptions.ConnectionError as error:
        raise InterruptedTransferError(f"{host} could not be reached ({_root(error)})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise InterruptedTransferError(
            f"the connection to {host} broke ({_root(error)})"
        ) from error


def _root(error: BaseException) -> str:
    """The innermost reason, which urllib3 wraps several times."""
    reason = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    if isinstance(reason, BaseException) and reason is not error:
        return _root(reason)
    text = str(error)
    # Without the connection that urllib3 puts before the reason.
    return re.sub(r"^\w+\(host=.*?\): ", "", text.rpartition(": ")[2] if "at 0x" in text else text)
