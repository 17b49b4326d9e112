"""Give claimed items back to their queue."""

from redis import Redis

from inference.messages import Finished, Generation, Usage, WorkItem, encode
from inference.queue import keys
from inference.queue.scripts import script


class Requeue:
    """Puts an item back at its old place; one that was cancelled meanwhile ends instead."""

    def __init__(self, redis: Redis) -> None:
        self._requeue = redis.register_script(script("requeue"))

    def __call__(self, item: WorkItem, launch_id: str, stream_ttl_seconds: int) -> None:
        """Take ``item``, with what was emitted so far, from the claims of ``launch_id``."""
        usage = Usage(0, 0)
        if isinstance(item, Generation) and item.emitted_frames:
            # The client has these tokens, even if the item is cancelled and never runs again.
            usage = Usage(len(item.prompt_token_ids), len(item.emitted_token_ids))
        self._requeue(
            keys=[
                keys.queue(item.version_key),
                keys.bell(item.version_key),
                keys.item(item.id),
                keys.claims(launch_id),
                keys.stream(item.id),
            ],
            args=[
                item.id,
                encode(item),
                item.crashes,
                item.emitted_frames + 1,
                encode(Finished("cancelled", usage)),
                stream_ttl_seconds,
            ],
        )
