"""`https://host/path/model.gguf`: a file on any web server."""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from models_registry.sources.access import Access
from models_registry.sources.errors import AccessDeniedError, BadSourceError, SourceError
from models_registry.sources.remote import Address, Answer, Remote

# Parameters that let in whoever knows the URL; compared in lower case.
_SECRETS: Final = {
    *("token", "access_token", "auth", "password", "key", "api_key", "apikey", "secret"),
    *("sig", "signature", "x-amz-signature", "x-amz-security-token", "x-goog-signature"),
}


def remote(url: str, access: Access) -> Remote:
    """The file at a web address.

    Raises:
        BadSourceError: The URL carries a password or another secret, or a fragment.
    """
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
    address = Address(url, only_public=access.only_public)
    return Remote(url=url, locate=lambda: address, refusal=_refusal)


def _refusal(answer: Answer) -> SourceError | None:
    if answer.status not in (401, 403):
        return None
    host = urlsplit(answer.url).hostname
    name = unquote(urlsplit(answer.url).path)
    return AccessDeniedError(
        f"{host} does not give {name} to everybody (it answered {answer.status}). Take it from a "
        "source that needs no login, or put the file into the models directory yourself."
    )
