"""`https://host/path/model.gguf`: a file on any web server."""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from models_registry.sources.errors import AccessDeniedError, BadSourceError, SourceError
from models_registry.sources.http.remote import Address, RemoteFile, ResponseHead
from models_registry.sources.interface import Access

# Query parameters that grant access to everybody who knows the URL; compared in lower case.
_SECRETS: Final = {
    *("token", "access_token", "auth", "password", "key", "api_key", "apikey", "secret"),
    *("sig", "signature", "x-amz-signature", "x-amz-security-token", "x-goog-signature"),
}


class WebFile(RemoteFile):
    def __init__(self, url: str, access: Access) -> None:
        super().__init__(url)
        _require_form(url)
        self._address = Address(url, only_public=access.only_public)

    def locate(self) -> Address:
        return self._address

    def refusal(self, response: ResponseHead) -> SourceError | None:
        if response.status not in (401, 403):
            return None
        parts = urlsplit(response.url)
        return AccessDeniedError(
            f"{parts.hostname} refuses {unquote(parts.path)} without a login ({response.status}). "
            "Take it from a source that needs no login, or put the file into the models directory "
            "yourself."
        )


def _require_form(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadSourceError(f"{url!r} is not a web address: {error}.") from error
    if "@" in parts.netloc:
        raise BadSourceError(
            f"The address on {parts.hostname} holds a user name or password, which everybody who "
            "sees the registry could read. Use a source that needs none."
        )
    if parts.fragment:
        raise BadSourceError(f"{url!r} has a '#' in it: write it as %23.")
    names = [name for name, _ in parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True)]
    secrets = [name for name in names if name.lower() in _SECRETS]
    if secrets:
        raise BadSourceError(
            f"The address on {parts.hostname} holds a secret ({secrets[0]}), which everybody who "
            "sees the registry could read. Use hf:// or s3://, whose credentials are settings, or "
            "put the file into the models directory yourself."
        )
