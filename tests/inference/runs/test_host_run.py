"""Queue items of an order: the salt that separates tenants, and the priority."""

from collections.abc import Callable

import pytest

from inference.messages import Finished, Generation, Started, Usage
from inference.orders.order import Order
from inference.principal import Principal
from inference.runs.generate import generate
from inference.runs.host_run import HostRun, cache_salt
from inference.runs.runtime import Runtime
from metrics.ledger import store
from models_registry.models import ModelVersion
from tests.stack import (  # noqa: F401 - fixtures
    ScriptedHost,
    configure,
    database,
    redis_client,
    scripted_host,
    service,
    shared_tokenizer,
    version,
)

KEY = Principal(7, "ann", frozenset(), key_id=3)
OTHER_KEY = Principal(7, "ann", frozenset(), key_id=4)
TOKEN = Principal(7, "ann", frozenset())
STRANGER = Principal(8, "bob", frozenset(), key_id=5)


@pytest.mark.parametrize(
    ("sharing", "together"),
    [
        ("key", [{KEY}, {OTHER_KEY}, {TOKEN}, {STRANGER}]),
        ("user", [{KEY, OTHER_KEY, TOKEN}, {STRANGER}]),
        ("all", [{KEY, OTHER_KEY, TOKEN, STRANGER}]),
    ],
)
def test_cache_salt_sets_apart_who_may_not_share(sharing: str, together: list[set[Principal]]):
    salts = [{cache_salt(principal, sharing) for principal in group} for group in together]
    assert all(len(group) == 1 for group in salts)
    assert len(set.union(*salts)) == len(together)


async def test_run_without_an_end_is_waited_for_once(
    service: Runtime,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    scripted_host: ScriptedHost,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("inference.runs.host_run.SETTLE_SECONDS", 0.1)
    stops: list[str] = []
    stop = HostRun.stop

    async def counted(run: HostRun) -> bool:
        stops.append(run.header.id)
        return await stop(run)

    monkeypatch.setattr(HostRun, "stop", counted)
    spec = await service.resolver.resolve(version.model.slug, "text_generation")
    async with generate(Order("chat", spec, [[1, 2]], max_tokens=4), KEY) as run:
        scripted_host.claim()
    assert stops == [run.header.id]
    await service.ledger.close()
    left = await service.redis.smembers(store.LEFT)
    assert run.header.id.encode() in left


@pytest.mark.parametrize(("strategy", "priority"), [("priority", 3), ("fifo", 2)])
async def test_order_is_as_urgent_as_the_queue_strategy_lets_it(
    service: Runtime,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    scripted_host: ScriptedHost,  # noqa: F811
    configure: Callable[..., None],  # noqa: F811
    strategy: str,
    priority: int,
):
    configure(queue_strategy=strategy)
    spec = await service.resolver.resolve(version.model.slug, "text_generation")
    order = Order("chat", spec, [[1, 2]], max_tokens=4, priority=3)
    async with generate(order, KEY):
        item = scripted_host.claim()
        scripted_host.publish(item, [Started(2), Finished("stop", Usage(2, 0))])
    assert isinstance(item, Generation)
    assert item.priority == priority
    assert item.cache_salt == "user:7"
