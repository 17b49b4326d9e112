"""Where model files come from. `fetch` is the one entrance; nothing here knows Django."""

from models_registry.sources.errors import (
    BadSourceError,
    ChecksumMismatchError,
    ConversionError,
    DestinationError,
    DiskFullError,
    DownloadFailedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.fetch import FetchedFile, fetch
from models_registry.sources.progress import Phase, ProgressCallback

__all__ = [
    "BadSourceError",
    "ChecksumMismatchError",
    "ConversionError",
    "DestinationError",
    "DiskFullError",
    "DownloadFailedError",
    "FetchedFile",
    "Phase",
    "ProgressCallback",
    "SourceError",
    "SourceNotFoundError",
    "SourceUnreachableError",
    "fetch",
]
