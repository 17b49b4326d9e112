"""``/health`` and ``/health/ready``."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from django.test import AsyncClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from inference.database import in_database
from inference.runs.runtime import Runtime
from inference_site import health
from inference_site.health import Probe, Wanted, readiness
from models_registry.catalogue.status import ReplicaStatus
from models_registry.fleet.preset_fit import Need, NodeFit, fit_device
from models_registry.models import ModelVersion, Node, Preset, Replica
from tests.models_registry.fleet_rows import a_version
from tests.stack import (  # noqa: F401 - fixtures
    FakeModel,
    configure,
    database,
    model,
    redis_client,
    service,
    shared_tokenizer,
    version,
)

UP = Probe(True, 1.5)
DOWN = Probe(False, 3000.0, error="connection refused")


def replica(name: str, state: str = "ready", **fields: Any) -> ReplicaStatus:
    values: dict[str, Any] = {
        "version_key": f"{name}@v1",
        "node": "local",
        "desired": "resident",
        "state": state,
        "reason": "",
        "load_fraction": 1.0 if state == "ready" else 0.25,
        "resident_bytes": None,
        "device": "",
    }
    return ReplicaStatus(**(values | fields))


def states(content: dict[str, Any]) -> dict[str, str]:
    entries = content["dependencies"]["hosts"]["replicas"]
    return {entry["version"]: entry["state"] for entry in entries}


def test_ready_when_every_wanted_version_is_served():
    content = readiness(UP, UP, Wanted([replica("a"), replica("b")]), {"a@v1", "b@v1"})
    assert content["status"] == "ready"
    assert content["progress"] == "2/2"
    assert content["loaded_models"] == ["a", "b"]
    assert "reason" not in content
    dependencies = content["dependencies"]
    assert {name: entry["status"] for name, entry in dependencies.items()} == dict.fromkeys(
        ("postgres", "redis", "hosts"), "ok"
    )
    assert all(entry["latency_ms"] == 1.5 for entry in dependencies.values())


def test_loading_says_how_far_and_what_is_missing():
    content = readiness(UP, UP, Wanted([replica("a"), replica("b", "loading")]), {"a@v1"})
    assert (content["status"], content["progress"]) == ("not_ready", "1/2")
    assert content["reason"] == "Models still loading: b@v1"
    assert content["dependencies"]["hosts"]["status"] == "degraded"
    entry = content["dependencies"]["hosts"]["replicas"][1]
    assert (entry["state"], entry["progress"]) == ("loading", 0.25)


def test_reason_lists_missing_models_in_order():
    content = readiness(UP, UP, Wanted([replica(name, "loading") for name in "cabd"]), set())
    assert content["reason"] == "Models still loading: a@v1, b@v1, c@v1, d@v1"


def test_two_replicas_of_a_version_count_once():
    replicas = [replica("a"), replica("a", "loading", node="other")]
    content = readiness(UP, UP, Wanted(replicas), {"a@v1"})
    assert (content["status"], content["progress"]) == ("ready", "1/1")


def test_unwanted_replicas_do_not_count():
    content = readiness(UP, UP, Wanted([replica("a"), replica("b", desired="absent")]), {"a@v1"})
    assert (content["status"], content["progress"]) == ("ready", "1/1")


def test_nothing_wanted_is_not_ready_and_says_what_to_do():
    content = readiness(UP, UP, Wanted([]), set())
    assert content["status"] == "not_ready"
    assert "Load one" in content["reason"]


def test_version_loaded_on_demand_does_not_count():
    replicas = [replica("a"), replica("b", "loading", is_on_demand=True)]
    content = readiness(UP, UP, Wanted(replicas), {"a@v1"})
    assert (content["status"], content["progress"]) == ("ready", "1/1")
    awake = readiness(UP, UP, Wanted([replica("b", is_on_demand=True)]), {"b@v1"}, can_load=True)
    assert (awake["status"], awake["progress"]) == ("ready", "0/0")
    assert awake["loaded_models"] == ["b"]


def test_no_loaded_model_is_ready_while_models_load_on_demand():
    content = readiness(UP, UP, Wanted([replica("a", desired="absent")]), set(), can_load=True)
    assert (content["status"], content["progress"]) == ("ready", "0/0")
    assert content["dependencies"]["hosts"]["status"] == "ok"


def test_pinned_version_without_a_replica_is_missing():
    content = readiness(UP, UP, Wanted([replica("a")], pinned={"p@v1"}), {"a@v1"}, can_load=True)
    assert (content["status"], content["progress"]) == ("not_ready", "1/2")
    assert content["reason"] == "Models still loading: p@v1"


def test_host_without_a_heartbeat_is_lost_whatever_the_registry_says():
    content = readiness(UP, UP, Wanted([replica("a"), replica("b")]), {"b@v1"})
    assert content["status"] == "not_ready"
    assert states(content) == {"a@v1": "lost", "b@v1": "ready"}


def test_failed_replica_keeps_its_reason():
    content = readiness(UP, UP, Wanted([replica("a", "failed", reason="no memory")]), set())
    entry = content["dependencies"]["hosts"]["replicas"][0]
    assert (entry["state"], entry["reason"]) == ("failed", "no memory")
    assert content["dependencies"]["hosts"]["status"] == "down"


def test_postgres_down_is_named_and_served_models_still_show():
    content = readiness(DOWN, UP, Wanted([]), {"a@v1"})
    assert content["status"] == "not_ready"
    assert content["reason"] == "Postgres does not answer: connection refused"
    assert content["loaded_models"] == ["a"]
    assert content["progress"] == "1/1"
    postgres = content["dependencies"]["postgres"]
    assert (postgres["status"], postgres["error"]) == ("down", "connection refused")
    assert content["dependencies"]["redis"]["status"] == "ok"


def test_redis_down_is_named_and_hosts_are_not_called_lost():
    content = readiness(UP, DOWN, Wanted([replica("a")]), set())
    assert content["status"] == "not_ready"
    assert content["reason"] == "Redis does not answer: connection refused"
    assert states(content) == {"a@v1": "ready"}


def test_both_down_are_both_named():
    content = readiness(DOWN, DOWN, Wanted([]), set())
    assert "Postgres" in content["reason"]
    assert "Redis" in content["reason"]


def crowded(*needs: int, budget: int = 10, places: int = 4) -> NodeFit:
    """Members a, b, c … that take so many bytes each."""
    members = tuple(
        Need(f"{name}@v1", {"cpu": need}, "foreseen")
        for name, need in zip("abcdef", needs, strict=False)
    )
    own = {need.version_key: need.needs["cpu"] for need in members}
    return NodeFit("local", members, (fit_device("cpu", own, budget),), places)


@pytest.mark.parametrize(
    ("serving", "progress", "loading"),
    [
        ("", "0/3", "a@v1, b@v1, c@v1"),
        ("a", "1/2", "b@v1"),
        ("ab", "2/2", ""),
        ("bc", "2/2", ""),
    ],
)
def test_ready_where_members_take_turns_when_no_more_can_come(
    serving: str, progress: str, loading: str
):
    replicas = [replica(name, "stopped") for name in "abc"]
    wanted = Wanted(replicas, crowded=[crowded(5, 5, 5 if serving == "bc" else 6)])
    content = readiness(UP, UP, wanted, {f"{name}@v1" for name in serving})
    assert content["progress"] == progress
    text = content.get("reason", "")
    if loading:
        assert text.startswith(f"Models still loading: {loading} local: cpu: Does not fit at once")
    else:
        assert content["status"] == "ready"
        assert "Loaded in turn: c@v1" in content["notice"]


def test_member_that_is_loading_is_awaited():
    replicas = [replica("a"), replica("b"), replica("c", "loading")]
    content = readiness(UP, UP, Wanted(replicas, crowded=[crowded(5, 5, 6)]), {"a@v1", "b@v1"})
    assert content["reason"].startswith("Models still loading: c@v1 ")


def test_members_that_take_turns_are_not_awaited():
    replicas = [replica("b"), replica("c", "loading"), replica("a", "stopped", desired="absent")]
    wanted = Wanted(replicas, crowded=[crowded(5, 5, 6)])
    content = readiness(UP, UP, wanted, {"b@v1"}, can_load=True)
    assert (content["status"], content["progress"]) == ("ready", "1/1")
    assert "Does not fit at once" in content["notice"]


@pytest.mark.parametrize(("serving", "state"), [("", "loading"), ("", "failed"), ("b", "failed")])
def test_members_that_take_turns_are_awaited_when_none_serves_or_one_failed(serving, state):
    replicas = [replica("b"), replica("c", state), replica("a", "stopped", desired="absent")]
    wanted = Wanted(replicas, crowded=[crowded(5, 5, 6)])
    content = readiness(UP, UP, wanted, {f"{name}@v1" for name in serving}, can_load=True)
    assert content["status"] == "not_ready"


def test_ready_where_hosts_are_too_few():
    wanted = Wanted(
        [replica(name, "stopped") for name in "abc"], crowded=[crowded(1, 1, 1, places=2)]
    )
    content = readiness(UP, UP, wanted, {"a@v1", "c@v1"})
    assert content["status"] == "ready"
    assert "at most 2 hosts" in content["notice"]


def test_member_that_fits_nowhere_is_awaited_with_its_numbers():
    wanted = Wanted([replica("a")], crowded=[crowded(5, 11)])
    content = readiness(UP, UP, wanted, {"a@v1"})
    assert content["status"] == "not_ready"
    assert content["reason"].startswith("Too large to be loaded: b@v1. local: cpu: Does not fit")
    assert "it needs 16 bytes, 6 bytes more" in content["reason"]


async def test_health_needs_no_key_and_no_server(monkeypatch: pytest.MonkeyPatch):
    response = await AsyncClient().get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.fixture
def wanted(version: ModelVersion) -> Replica:  # noqa: F811
    node = Node.objects.create(name="local")
    return Replica.objects.create(version=version, node=node, state=Replica.State.READY)


async def test_ready_route_is_open_and_true(wanted: Replica, model: FakeModel):  # noqa: F811
    response = await AsyncClient().get("/health/ready")
    assert response.status_code == 200
    content = response.json()
    assert content["status"] == "ready"
    # Hosts of earlier tests may still have their lease.
    assert model.slug in content["loaded_models"]
    assert content["dependencies"]["postgres"]["latency_ms"] > 0


async def test_ready_route_is_503_without_a_host(
    wanted: Replica,
    service: Runtime,  # noqa: F811
):
    response = await AsyncClient().get("/health/ready")
    assert response.status_code == 503
    assert states(response.json()) == {wanted.version.key: "lost"}


async def test_ready_route_is_503_when_a_heartbeat_is_too_old(
    wanted: Replica,
    model: FakeModel,  # noqa: F811
    configure: Callable[..., None],  # noqa: F811
):
    configure(lease_seconds=-1)
    assert (await AsyncClient().get("/health/ready")).status_code == 503


async def test_ready_route_reports_that_redis_is_away(
    wanted: Replica,
    service: Runtime,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    away: Any = redis.asyncio.Redis(port=1, retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr(service, "redis", away)
    response = await AsyncClient().get("/health/ready")
    assert response.status_code == 503
    assert response.json()["dependencies"]["redis"]["status"] == "down"
    assert response.json()["dependencies"]["postgres"]["status"] == "ok"
    await away.aclose()


async def test_ready_route_does_not_wait_for_ever(
    wanted: Replica,
    model: FakeModel,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.0)
    response = await AsyncClient().get("/health/ready")
    assert response.status_code == 503
    for name in ("postgres", "redis"):
        assert response.json()["dependencies"][name]["error"] == "TimeoutError"


async def test_ready_route_names_the_preset_and_what_of_it_does_not_fit(
    wanted: Replica,
    model: FakeModel,  # noqa: F811
    configure: Callable[..., None],  # noqa: F811
):
    def arrange() -> None:
        Node.objects.update(
            devices=[{"name": "cpu", "memory_bytes": 1 << 30, "budget_bytes": 1 << 30}]
        )
        large = a_version(is_default=True, header=None, documented_memory_bytes=2 << 30)
        preset = Preset.objects.create(name="D1", orchestration_mode="critique")
        preset.members.create(model=model.version.model, role="generator")
        preset.members.create(model=large.model, role="critic", position=1)

    await in_database(arrange)
    configure(config_preset="D1")
    response = await AsyncClient().get("/health/ready")
    content = response.json()
    assert (content["config"], content["orchestration_mode"]) == ("D1", "critique")
    assert response.status_code == 503
    assert "2.0 GiB" in content["reason"]
    assert "Too large even alone" in content["reason"]
