"""The state of the pool, and what is in it for whom."""

import pytest

from models_registry.fleet import live_figures as figures
from models_registry.fleet.live_figures import LiveFigures, Subjects
from models_registry.fleet.pool import pool_state, read_pool
from models_registry.models import Registration, Replica
from tests.models_registry.fleet_rows import a_node, a_version


@pytest.mark.parametrize(
    ("replicas", "state"),
    [
        ([], "ready"),
        ([(False, "stopped")], "ready"),
        ([(True, "stopped")], "initializing"),
        ([(True, "starting"), (True, "loading")], "initializing"),
        ([(True, "failed"), (True, "loading")], "initializing"),
        ([(True, "failed")], "error"),
        ([(False, "failed")], "degraded"),
        ([(False, "failed"), (True, "loading")], "initializing"),
        ([(False, "failed"), (True, "ready")], "degraded"),
        ([(True, "ready")], "ready"),
        ([(True, "ready"), (True, "loading")], "scaling"),
        ([(True, "ready"), (False, "draining")], "scaling"),
        ([(True, "ready"), (True, "failed")], "degraded"),
        ([(True, "ready"), (True, "failed"), (True, "loading")], "degraded"),
    ],
)
def test_pool_state_follows_its_replicas(replicas: list[tuple[bool, str]], state: str) -> None:
    assert pool_state(replicas) == state


def test_pool_without_a_machine_is_in_error() -> None:
    assert pool_state([(True, "ready")], has_nodes=False) == "error"


@pytest.mark.django_db
def test_pool_shows_what_is_loaded_and_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    node, version, sleeping, absent = a_node(3), a_version(), a_version(), a_version()
    Replica.objects.create(
        version=version, node=node, state=Replica.State.READY, device="CPU", placed_on="auto"
    )
    Replica.objects.create(version=absent, node=node, desired=Replica.Desired.ABSENT)
    failed = Replica.objects.create(
        version=a_version(),
        node=node,
        desired=Replica.Desired.ABSENT,
        state=Replica.State.FAILED,
    )
    for model_id in ("b", "a"):
        Registration.objects.create(
            model_id=model_id, requester="m", requirement={}, version=version
        )
    Registration.objects.create(model_id="c", requester="m", requirement={}, version=sleeping)
    asked: list[Subjects] = []

    def live(subjects: Subjects) -> LiveFigures:
        asked.append(subjects)
        return LiveFigures(queued={version.key: 4}, alive_nodes=frozenset({node.name}))

    monkeypatch.setattr(figures, "_sources", [live])
    pool = read_pool()
    assert (pool.state, pool.nodes, pool.places) == ("degraded", [node.name], 3)
    models = {model.version_key: model for model in pool.models}
    assert models.keys() == {version.key, sleeping.key, failed.version.key}
    assert models[failed.version.key].state == "degraded"
    assert set(asked[0].version_keys) == models.keys()
    loaded = models[version.key]
    assert (loaded.is_loaded, loaded.devices, loaded.queued, loaded.state) == (
        True, ["CPU"], 4, "ready",
    )  # fmt: skip
    assert [row.model_id for row in loaded.registrations] == ["b", "a"]
    assert (models[sleeping.key].is_loaded, models[sleeping.key].state) == (False, None)


@pytest.mark.django_db
def test_pool_without_figures_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    a_node()
    monkeypatch.setattr(figures, "_sources", [lambda _: LiveFigures(fault="Redis is away.")])
    pool = read_pool()
    assert (pool.state, pool.fault) == ("error", "Redis is away.")
