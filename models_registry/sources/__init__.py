"""Fetch model files from their sources; nothing here imports Django. Entrance: `fetch`."""

from models_registry.sources.errors import BadSourceError, SourceError
from models_registry.sources.fetch import FetchedFile, fetch
from models_registry.sources.http.private_networks import require_public
from models_registry.sources.interface import Access, Phase, ProgressCallback, ignore_progress
from models_registry.sources.schemes import REMOTE_SCHEMES, check_form, check_url, scheme_of

__all__ = [
    "REMOTE_SCHEMES",
    "Access",
    "BadSourceError",
    "FetchedFile",
    "Phase",
    "ProgressCallback",
    "SourceError",
    "check_form",
    "check_url",
    "fetch",
    "ignore_progress",
    "require_public",
    "scheme_of",
]
