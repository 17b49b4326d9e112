"""The header ``x-brigade-cache`` of requests and answers: pure."""

from contextlib import suppress
from typing import Any, Final

from inference.runs.run import CacheNote

CACHE_HEADER: Final = "x-brigade-cache"


def cache_options(text: str) -> dict[str, Any]:
    """The fields of ``cache`` in a header such as ``mode=refresh, ttl=60`` or ``no-store``."""
    options: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().rpartition("=")
        options[name or "mode"] = {"true": True, "false": False}.get(value, value)
        with suppress(ValueError):
            options[name or "mode"] = float(value) if "." in value else int(value)
    return options


def cache_headers(note: CacheNote) -> dict[str, str]:
    """The cache that answered, or why none did; key and age (seconds) are of its entry."""
    headers = {CACHE_HEADER: note.status} if note.status else {}
    if note.key:
        headers[f"{CACHE_HEADER}-key"] = note.key
        headers[f"{CACHE_HEADER}-age"] = f"{note.age_seconds:.0f}"
    if note.similarity is not None:
        headers[f"{CACHE_HEADER}-similarity"] = f"{note.similarity:.3f}"
    return headers
