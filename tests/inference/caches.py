"""A Redis without cached answers, for tests."""

import redis


def empty_caches(client: "redis.Redis") -> None:
    """Delete all cached answers, and the keys of running generations that requests share."""
    for name in ("cache*", "retyped:*", "flight:*", "readers:*"):
        for key in client.scan_iter(f"brigade:{name}"):
            client.delete(key)
