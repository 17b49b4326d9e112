"""The measured server; address and first key of a running Brigade."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec


class TargetError(Exception):
    """No server is known; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server with the OpenAI protocol.

    Args:
        name: in reports.
        base_url: with or without ``/v1`` at its end.
        api_key: bearer token; "" for none.
        model: the ``model`` field of each request.
        sends_priority: whether requests have Brigade's ``priority`` field.
        swaps_models: whether the load's other models are loaded and unloaded during the run.
    """

    name: str
    base_url: str
    api_key: str
    model: str
    sends_priority: bool = True
    swaps_models: bool = True

    def url(self, path: str) -> str:
        """Return the address of an API path, such as ``/chat/completions``."""
        base = self.base_url.rstrip("/").removesuffix("/v1")
        return f"{base}/v1{path}"


class FirstRun(msgspec.Struct):
    """The part of ``first_run.json`` that clients need."""

    base_url: str
    api_key: str


def read_first_run(home: Path) -> FirstRun:
    """Read the file that the first start of the service wrote for scripts.

    Args:
        home: BRIGADE_HOME.

    Raises:
        TargetError: the file is missing or invalid.
    """
    path = home / "first_run.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=FirstRun)
    except FileNotFoundError:
        raise TargetError(
            f"There is no {path}. Start the service with `make run`, or give --base-url."
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise TargetError(f"{path} cannot be used ({error}). Give --base-url.") from error


def resolve_target(
    home: Path, *, base_url: str | None, api_key: str | None, model: str, name: str | None = None
) -> Target:
    """Return the server of the options, completed from ``first_run.json``.

    The stored key is used only for the stored address, never for another server.

    Raises:
        TargetError: no address was given and none is stored.
    """
    if base_url is not None:
        if not base_url.startswith(("http://", "https://")):
            raise TargetError(f"--base-url {base_url!r} must begin with http:// or https://.")
        if api_key is None:
            api_key = _stored_key(home, base_url)
        return Target(name or urlsplit(base_url).netloc, base_url, api_key, model)
    first_run = read_first_run(home)
    return Target(name or "Brigade", first_run.base_url, api_key or first_run.api_key, model)


def _stored_key(home: Path, base_url: str) -> str:
    try:
        first_run = read_first_run(home)
    except TargetError:
        return ""
    stored = first_run.base_url.rstrip("/").removesuffix("/v1")
    return first_run.api_key if base_url.rstrip("/").removesuffix("/v1") == stored else ""
