"""Database work from the event loop."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async

P = ParamSpec("P")
Result = TypeVar("Result")


async def in_database(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Run ``function`` in a thread that keeps its database connection between calls.

    Django's default, a thread per request, would connect to Postgres for every request.
    """
    run = database_sync_to_async(function, thread_sensitive=False)
    result: Result = await run(*args, **kwargs)
    return result
