"""Versions that are not in memory: waiting for the controller, how far they are, why not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference.database import in_database
from inference.errors import InferenceError, ModelLoadingError
from inference.messages import RunHeader
from inference.orders.resolution import missing_file
from inference.queue import keys
from models_registry.catalogue.lookup import find_version
from models_registry.catalogue.status import replica_statuses
from models_registry.models import ModelVersion

logger = logging.getLogger(__name__)

# The controller looks at the registry twice a second.
NEWS_POLL_SECONDS = 0.25
NEWS_POLLS = 8


Queued = TypeVar("Queued")


async def enqueue(
    redis: Redis, version_key: str, put_into_queue: Callable[[], Awaitable[Queued]]
) -> Queued:
    """Queue a run, at once or when the controller has seen that its version can be loaded.

    Args:
        redis: the client.
        version_key: of the run's items.
        put_into_queue: ``Queue.enqueue`` with its arguments.

    Returns:
        Its result.

    Raises:
        ModelBusyError, ModelLoadingError, InvalidRequestError: as ``Queue.enqueue``.
    """
    for _ in range(NEWS_POLLS):
        try:
            return await put_into_queue()
        except ModelLoadingError:
            # Without the controller, or the version's file in the registry, waiting does not help.
            if not await redis.exists(keys.LOADABLE):
                raise
            if not await in_database(_can_be_loaded, version_key):
                raise
        await asyncio.sleep(NEWS_POLL_SECONDS)
    return await put_into_queue()


def _can_be_loaded(version_key: str) -> bool:
    version = find_version(version_key)
    return version is not None and version.file_state == ModelVersion.FileState.READY


async def load_fraction(redis: Redis, version_key: str) -> float | None:
    """The loaded share (0 to 1) of a version that is on its way into memory, or None.

    None also while Redis is away, so that waiting requests do not fail.
    """
    try:
        answer: Any = await cast("Any", redis.hget(keys.LOADING, version_key))
    except RedisError as error:
        logger.debug("not known how far %s is: %s", version_key, error)
        answer = None
    # redis-py may turn the cancellation of this task into an error or an answer of its own.
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
    return None if answer is None else float(answer)


def explain_absence(header: RunHeader) -> InferenceError:
    """Why no host serves the version and none will be started, as the registry knows it."""
    version = find_version(header.version_key)
    if version is not None and version.file_state != ModelVersion.FileState.READY:
        return missing_file(version.key, version.file_state)
    error = ModelLoadingError(
        f"{header.model} is not in memory, and nothing loads it at the moment. Try again "
        "soon; if that does not help, start the controller: python manage.py controller",
        code="model_not_loaded",
        param="model",
        retry_after_ms=10_000,
    )
    own = [one for one in replica_statuses() if one.version_key == header.version_key]
    reasons = " ".join(replica.reason for replica in own if replica.reason)
    if reasons:
        error.message = f"{error.message} {reasons}"
    error.details["replicas"] = {replica.node: replica.state for replica in own}
    return error
