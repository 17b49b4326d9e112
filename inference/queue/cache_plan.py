"""The part of the cache in the answer to one item, for the scripts of the queue."""

import msgspec

from caching.answers import CachedAnswer


class CachePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one item may be answered by the cache, and its answer be stored; JSON for Lua.

    Attributes:
        item: the id under which it is generated, for all requests that share it.
        key: of all that shapes the answer.
        about: the answer.
        ttl: seconds that an answer is kept; older ones do not count.
        budget: bytes that all cached answers may take.
        copy_seconds: how long a cached answer can be followed again; None if it is not streamed.
        read: whether an answer may come from the cache or from a running generation.
        retyped: the key of the canonical question; "" where only the exact one counts.
    """

    item: str
    key: str
    about: CachedAnswer
    ttl: int
    budget: int
    copy_seconds: int | None = None
    read: bool = False
    retyped: str = ""
