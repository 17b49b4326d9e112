"""The progress of a download, for clients that stay connected."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from inference.api.registry.downloads import download_object, found
from inference.database import in_database
from models_registry.models import ACTIVE

POLL_SECONDS = 1.0


async def progress_of(download_id: UUID) -> AsyncIterator[dict[str, Any]]:
    """The download as ``GET /api/models/downloads/{id}`` shows it: at once and after each change,
    until it has ended.

    Raises:
        NotFoundError: there is no such download, or no longer.
    """
    last: dict[str, Any] = {}
    while True:
        content = download_object(await in_database(found, download_id))
        if content != last:
            yield content
        if content["state"] not in ACTIVE:
            return
        last = content
        await asyncio.sleep(POLL_SECONDS)
