"""Errors of fetching a model file: one class per remedy."""

import re
from typing import Final

# The query of a web address, or of its path as urllib3 quotes it, without punctuation after it.
_QUERY: Final = re.compile(r"((?:https?://|url: )[^\s?]*)\?\S*?(?=['\")>\],.:;]*(?:\s|$))")


class SourceError(Exception):
    """A model file could not be fetched; the message says why and what to do.

    Queries of web addresses, which may hold signatures, are cut: many people see the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_QUERY.sub(r"\1?…", message))


class BadSourceError(SourceError):
    """The source URL or checksum is malformed, or the scheme is not supported."""


class SourceNotFoundError(SourceError):
    """The package, version, member or file that the URL names does not exist."""


class AccessDeniedError(SourceError):
    """A token or a permission for an existing file is missing."""


class SourceUnreachableError(SourceError):
    """The server or package index could not be reached; trying again later may help."""


class ChecksumMismatchError(SourceError):
    pass


class SizeMismatchError(SourceError):
    pass


class DestinationError(SourceError):
    """The file cannot be written to its destination."""


class DiskFullError(DestinationError):
    pass


class ConversionError(SourceError):
    """The fetched file could not be converted to GGUF."""


class DownloadFailedError(SourceError):
    """The server or pip failed for a reason that the message quotes."""
