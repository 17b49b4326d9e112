"""Where model files come from. `fetch` is the one entrance; nothing here knows Django."""

from models_registry.sources.access import Access
from models_registry.sources.errors import (
    AccessDeniedError,
    BadSourceError,
    ChecksumMismatchError,
    ConversionError,
    DestinationError,
    DiskFullError,
    DownloadFailedError,
    SizeMismatchError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from models_registry.sources.fetch import FetchedFile, check_form, check_url, fetch
from models_registry.sources.progress import Phase, ProgressCallback
from models_registry.sources.reach import require_public

__all__ = [
    "Access",
    "AccessDeniedError",
    "BadSourceError",
    "ChecksumMismatchError",
    "ConversionError",
    "DestinationError",
    "DiskFullError",
    "DownloadFailedError",
    "FetchedFile",
    "Phase",
    "ProgressCallback",
    "SizeMismatchError",
    "SourceError",
    "SourceNotFoundError",
    "SourceUnreachableError",
    "check_form",
    "check_url",
    "fetch",
    "require_public",
]
