"""What can go wrong while a model file is fetched: one class per remedy."""

import re
from typing import Final

# Of a web address, or of its path as urllib3 quotes it, up to the punctuation after it.
_QUERY: Final = re.compile(r"((?:https?://|url: )[^\s?]*)\?\S*?(?=['\")>\],.:;]*(?:\s|$))")


class SourceError(Exception):
    """A model file could not be fetched; the message says why and what to do about it.

    Queries of web addresses are cut from it: they may hold signatures, and everybody who sees the
    registry reads the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_QUERY.sub(r"\1?…", message))


class BadSourceError(SourceError):
    """The source URL or checksum is malformed, or the scheme is not supported."""


class SourceNotFoundError(SourceError):
    """The package, version, member or file that the URL names does not exist."""


class AccessDeniedError(SourceError):
    """The file is there, but not for this caller: a token or a permission is missing."""


class SourceUnreachableError(SourceError):
    """The server or package index could not be reached; trying again later may help."""


class ChecksumMismatchError(SourceError):
    """The bytes that arrived are not the bytes that were asked for."""


class SizeMismatchError(SourceError):
    """The file is longer or shorter than was announced."""


class DestinationError(SourceError):
    """The file cannot be written where it should be."""


class DiskFullError(DestinationError):
    """There is not enough free space for the file and what is needed to make it."""


class ConversionError(SourceError):
    """The fetched file could not be converted to GGUF."""


class DownloadFailedError(SourceError):
    """What delivers the file failed for a reason of its own, which the message quotes."""
