"""The part of the cache in the answer to one item, for the scripts of the queue."""

import msgspec


class CachedAnswer(msgspec.Struct, frozen=True):
    """The facts about a cached answer by which it is found and forgotten.

    The script that stores it adds ``bytes``, ``made_at`` and ``expires_at`` (Unix seconds).
    """

    version: str
    preset: str
    user: int
    end_user: str
    run: str
    bytes: int = 0
    made_at: float = 0.0
    expires_at: float = 0.0


class CachePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one item may be answered by the cache, and its answer be stored; JSON for Lua.

    Attributes:
        item: the id under which it is generated, for all requests that share it.
        key: of all that shapes the answer.
        about: the answer.
        ttl: seconds that an answer is kept; older ones do not count.
        budget: bytes that all cached answers may take.
        read: whether an answer may come from the cache or from a running generation.
        retyped: the key of the canonical question; "" where only the exact one counts.
    """

    item: str
    key: str
    about: CachedAnswer
    ttl: int
    budget: int
    read: bool = False
    retyped: str = ""
