"""The stack's fixtures for tests of this folder."""

from tests.stack import (
    configure,
    database,
    redis_client,
    scripted_host,
    service,
    shared_tokenizer,
    version,
)

__all__ = [
    "configure",
    "database",
    "redis_client",
    "scripted_host",
    "service",
    "shared_tokenizer",
    "version",
]
