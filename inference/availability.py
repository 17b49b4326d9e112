"""Whether a version is on its way into memory, and why it is not served."""

import logging
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference.errors import ModelLoadingError
from inference.queue import keys
from inference.run import RunHeader
from models_registry.models import ModelVersion
from models_registry.selectors import find_version, replica_statuses

logger = logging.getLogger(__name__)


async def load_fraction(redis: Redis, version_key: str) -> float | None:
    """How far a version is on its way into memory, 0 to 1; None when it is not on its way.

    Nor is it known while Redis is away: those who wait are not to fail for that.
    """
    try:
        answer: Any = await cast("Any", redis.hget(keys.LOADING, version_key))
    except RedisError as error:
        logger.debug("not known how far %s is: %s", version_key, error)
        return None
    return None if answer is None else float(answer)


def explain_absence(error: ModelLoadingError, header: RunHeader) -> ModelLoadingError:
    """Why no host serves the version and none will be started, as the registry knows it."""
    version = find_version(header.version_key)
    if version is not None and version.file_state != ModelVersion.FileState.READY:
        error = ModelLoadingError(
            f"The file of {version.key} is {version.file_state}. Fetch it first: "
            f"python manage.py fetch_model {version.key}",
            code="model_not_loaded",
            param="model",
            retry_after_ms=10_000,
        )
    else:
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
