"""What can go wrong while a model file is fetched: one class per remedy."""


class SourceError(Exception):
    """A model file could not be fetched; the message says why and what to do about it."""


class BadSourceError(SourceError):
    """The source URL or checksum is malformed, or the scheme is not supported."""


class SourceNotFoundError(SourceError):
    """The package, version, member or file that the URL names does not exist."""


class SourceUnreachableError(SourceError):
    """The package index could not be reached; trying again later may help."""


class ChecksumMismatchError(SourceError):
    """The bytes that arrived are not the bytes that were asked for."""


class DestinationError(SourceError):
    """The file cannot be written where it should be."""


class DiskFullError(DestinationError):
    """There is not enough free space for the file and what is needed to make it."""


class ConversionError(SourceError):
    """The fetched file could not be converted to GGUF."""


class DownloadFailedError(SourceError):
    """What delivers the file failed for a reason of its own, which the message quotes."""
