"""Fixtures of the tests of runs."""

from tests.stack import (  # noqa: F401
    api,
    configure,
    database,
    embedding_model,
    model,
    redis_client,
    scripted_host,
    service,
    shared_tokenizer,
    version,
)
