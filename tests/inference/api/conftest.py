"""Fixtures of the API's tests."""

import pytest
import redis

from metrics.ledger import store
from tests.inference.caches import empty_caches
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


@pytest.fixture
def empty_cache(database: None, redis_client: "redis.Redis") -> None:  # noqa: F811
    """Neither cached answers nor a ledger of other tests."""
    empty_caches(redis_client)
    redis_client.delete(store.OPEN, store.UNWRITTEN, store.LEFT)
    for key in redis_client.scan_iter("brigade:ledger:*"):
        redis_client.delete(key)
