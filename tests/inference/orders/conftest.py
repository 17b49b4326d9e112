"""Fixtures of the tests that ask a whole service."""

from tests.stack import (  # noqa: F401
    api,
    database,
    model,
    redis_client,
    service,
    shared_tokenizer,
    version,
)
