"""Give claimed items back to their queue."""

from typing import Any

from redis import Redis

from inference.messages import Finished, Generation, Usage, WorkItem, encode
from inference.queue import keys
from inference.queue.scripts import script


class Requeue:
    """Puts an item back at its old place; one that was cancelled meanwhile ends instead."""

    def __init__(self, redis: Redis) -> None:
        self._requeue = redis.register_script(script("requeue"))

    def __call__(self, item: WorkItem, launch_id: str, stream_ttl_seconds: int) -> None:
        """Take ``item`` from the claims of ``launch_id``; it says what was emitted so far."""
        arguments: list[Any] = [
            item.id,
            encode(item),
            item.crashes,
            item.emitted_frames + 1,
            encode(_cancelled(item)),
            stream_ttl_seconds,
        ]
        self._requeue(
            keys=[
                keys.queue(item.version_key),
                keys.bell(item.version_key),
                keys.item(item.id),
                keys.claims(launch_id),
                keys.stream(item.id),
            ],
            args=arguments,
        )


def _cancelled(item: WorkItem) -> Finished:
    """The last frame of ``item`` if it is never taken up again; counts what the client got."""
    if not isinstance(item, Generation) or not item.emitted_frames:
        return Finished("cancelled", Usage(0, 0))
    return Finished("cancelled", Usage(len(item.prompt_token_ids), len(item.emitted_token_ids)))
