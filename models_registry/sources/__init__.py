"""Fetch model files from their sources; nothing here imports Django. Entrance: `fetch`."""

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
from models_registry.sources.fetch import FetchedFile, fetch
from models_registry.sources.http.private_networks import require_public
from models_registry.sources.interface import Access, Phase, ProgressCallback, ignore_progress
from models_registry.sources.schemes import check_form, check_url

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
    "ignore_progress",
    "require_public",
]
