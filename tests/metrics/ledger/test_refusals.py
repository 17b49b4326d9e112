"""Counts of refused requests come from Redis into rows, and leave Redis after a day."""

import time
from collections.abc import Iterator

import pytest
import redis

from metrics.ledger import store
from metrics.ledger.refusals import copy_refusals
from metrics.models import RefusedSlot
from tests.stack import redis_client

__all__ = ["redis_client"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    redis_client.delete(store.REFUSED)
    yield redis_client
    redis_client.delete(store.REFUSED)


def test_refusals_are_copied_and_never_fall(client: redis.Redis) -> None:
    copy_refusals(client)
    now = int(time.time()) // 900 * 900
    for busy, late in ((2, 1), (5, 1), (3, 4)):
        client.hset(store.REFUSED, mapping={f"{now}|busy": busy, f"{now}|late": late})
        copy_refusals(client)
    assert dict(RefusedSlot.objects.values_list("code", "requests")) == {"busy": 5, "late": 4}
    assert {row.slot.timestamp() for row in RefusedSlot.objects.all()} == {now}


def test_counts_of_yesterday_leave_redis(client: redis.Redis) -> None:
    now = int(time.time()) // 900 * 900
    client.hset(store.REFUSED, mapping={f"{now - 87_300}|busy": 7, f"{now}|busy": 1})
    for _ in range(2):
        copy_refusals(client)
        assert list(client.hgetall(store.REFUSED)) == [f"{now}|busy".encode()]
        assert sorted(RefusedSlot.objects.values_list("requests", flat=True)) == [1, 7]
