"""Fixtures of the API's tests."""

from tests.stack import (  # noqa: F401
    api,
    cached_model,
    configure,
    database,
    embedding_model,
    model,
    redis_client,
    scripted_host,
    service,
    shared_tokenizer,
    stranger,
    version,
)
