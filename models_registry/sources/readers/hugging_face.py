"""`hf://owner/repo/path/file.gguf?revision=…`: a file in a repository on Hugging Face.

`X-Linked-Etag` is the sha256 of a large file and `X-Linked-Size` its size, both on the redirect to
the bytes. Its target is signed for one range and for minutes: every request begins at the
repository.
"""

import re
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    SourceError,
    SourceNotFoundError,
)
from models_registry.sources.http.remote import (
    Address,
    Expected,
    RemoteFile,
    ResponseHead,
    is_loopback,
)
from models_registry.sources.interface import Access

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_SHA256_ETAG: Final = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class HuggingFaceFile(RemoteFile):
    def __init__(self, url: str, access: Access) -> None:
        super().__init__(url)
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise BadSourceError(f"{url!r} is not a Hugging Face source: {error}.") from error
        repository, _, self.path = unquote(parts.path).lstrip("/").partition("/")
        self.repository = f"{parts.netloc}/{repository}"
        self.revision = query.pop("revision", ["main"])[-1]
        names_are_good = _NAME.fullmatch(parts.netloc) and _NAME.fullmatch(repository)
        path_is_good = self.path and not {"", ".", ".."} & set(self.path.split("/"))
        if not (names_are_good and path_is_good and _REVISION.fullmatch(self.revision)) or query:
            raise BadSourceError(
                f"{url!r} is not a Hugging Face source: write hf://owner/repository/file.gguf, "
                "with ?revision=… for another branch, tag or commit than main."
            )
        self.endpoint = access.hf_endpoint.rstrip("/")
        self.token = access.hf_token

    def locate(self) -> Address:
        revision, path = quote(self.revision, safe=""), quote(self.path)
        url = f"{self.endpoint}/{self.repository}/resolve/{revision}/{path}"
        if not self.token:
            return Address(url, is_configured=True)
        endpoint = urlsplit(self.endpoint)
        if endpoint.scheme != "https" and not is_loopback(endpoint.hostname):
            raise BadSourceError(
                f"HF_TOKEN is not sent to {self.endpoint}, which is not encrypted. Set HF_ENDPOINT "
                "to an https:// address, or unset HF_TOKEN."
            )
        return Address(url, {"Authorization": f"Bearer {self.token}"}, is_configured=True)

    def refusal(self, response: ResponseHead) -> SourceError | None:
        code = response.headers.get("x-error-code", "")
        if code == "EntryNotFound":
            return SourceNotFoundError(
                f"{self.repository} has no file {self.path} at revision {self.revision}."
            )
        if code == "RevisionNotFound":
            return SourceNotFoundError(f"{self.repository} has no revision {self.revision}.")
        if response.status in (401, 403):
            return AccessDeniedError(self._denied(code))
        if response.status == 404 or code == "RepoNotFound":
            return SourceNotFoundError(
                f"{self.endpoint} has no {self.repository} with {self.path}, or does not show it: "
                "check the name."
            )
        return None

    def declared(self, response: ResponseHead) -> Expected:
        sha256: str | None = None
        size_bytes: int | None = None
        for headers in response.hops:
            etag = _SHA256_ETAG.fullmatch(headers.get("x-linked-etag", ""))
            size = headers.get("x-linked-size", "")
            sha256 = etag[1] if etag else sha256
            size_bytes = int(size) if size.isascii() and size.isdigit() else size_bytes
        return Expected(sha256, size_bytes)

    def _denied(self, code: str) -> str:
        page, tokens = f"{self.endpoint}/{self.repository}", f"{self.endpoint}/settings/tokens"
        if code == "GatedRepo" and self.token:
            return (
                f"{self.repository} is gated, and the account of HF_TOKEN has no access to it. Ask "
                f"for access on {page} with that account, and try again when it is granted."
            )
        if code == "GatedRepo":
            return (
                f"{self.repository} is gated and HF_TOKEN is not set. Accept its terms on {page}, "
                f"make a token on {tokens}, set HF_TOKEN to it and restart."
            )
        if self.token:
            return (
                f"HF_TOKEN gives no access to {self.repository}: the token has expired or may not "
                f"read it, or there is no such repository. Check the name and the token ({tokens})."
            )
        return (
            f"{self.repository} does not exist, or is private or gated and HF_TOKEN is not set. "
            f"Check the name; for a private or gated one make a token on {tokens}, set HF_TOKEN "
            "to it and restart."
        )
