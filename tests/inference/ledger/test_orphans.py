"""Requests whose web process has gone are recorded by what their hosts have said."""

import pytest
import redis

from inference.database import in_database
from inference.ledger import orphans as orphans_module
from inference.ledger.orphans import settle_orphans, write_unwritten
from inference.messages import Delta, Finished, Started, Usage
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.runs.generate import generate
from inference.runs.runtime import Runtime
from metrics.ledger import store
from metrics.models import RequestRecord
from models_registry.models import ModelVersion
from tests.stack import ScriptedHost

ANN = Principal(7, "ann", frozenset(), key_id=3, key_name="laptop")


@pytest.fixture(autouse=True)
def _of_any_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans_module, "YOUNGEST_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _new_ledger(database: None, redis_client: "redis.Redis") -> None:
    """A ledger without requests of other tests."""
    redis_client.delete(store.OPEN, store.UNWRITTEN, store.LEFT)


async def dead_request(service: Runtime, version: ModelVersion) -> str:
    """The id of a queued request whose web process dies before it reads the answer."""
    spec = await service.resolver.resolve(version.model.slug, "text_generation")
    dying = generate(Order("chat", spec, [[1, 2]], max_tokens=4), ANN)
    run = await dying.__aenter__()
    # Nothing of it is told to anybody any more.
    await service.redis.delete(store.process_key(service.ledger.process))
    _dying.append(dying)
    return run.header.id


_dying: list[object] = []


async def records(client: "redis.Redis") -> list[RequestRecord]:
    """All records after a sweep."""
    settle_orphans(client, longest_seconds=1000)
    await in_database(write_unwritten, client)
    return await in_database(lambda: list(RequestRecord.objects.all()))


async def test_answer_that_nobody_read_is_recorded_when_it_ends(
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
) -> None:
    run_id = await dead_request(service, version)
    assert await records(redis_client) == []
    item = scripted_host.claim()
    scripted_host.publish(item, [Started(2), Delta("a", [5])])
    assert await records(redis_client) == []
    end = Finished("stop", Usage(2, 1, computed_prompt_tokens=2, computed_completion_tokens=1))
    scripted_host.publish(item, [end], after=2)
    (record,) = await records(redis_client)
    assert (record.run_id, record.outcome) == (run_id, "finished")
    assert (record.completion_tokens, record.key_id) == (1, 3)
    assert not redis_client.exists(store.OPEN, store.UNWRITTEN)
    assert await records(redis_client) == [record]


async def test_request_that_nobody_knows_any_more_is_lost(
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
) -> None:
    run_id = await dead_request(service, version)
    item = scripted_host.claim()
    await service.redis.delete(keys.item(item.id))
    redis_client.hset(store.OPEN, "of another release", b"1 dead-process nonsense")
    (record,) = await records(redis_client)
    assert (record.run_id, record.outcome) == (run_id, "lost")
    redis_client.delete(store.OPEN)


async def test_request_of_a_living_process_is_left_alone(
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
) -> None:
    spec = await service.resolver.resolve(version.model.slug, "text_generation")
    async with generate(Order("chat", spec, [[1, 2]], max_tokens=4), ANN) as run:
        item = scripted_host.claim()
        scripted_host.publish(item, [Finished("stop", Usage(2, 0))])
        assert await records(redis_client) == []
    await service.ledger.close()
    (record,) = await records(redis_client)
    assert record.run_id == run.header.id
