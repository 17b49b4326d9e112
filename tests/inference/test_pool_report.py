"""The pool in words of the API: pure."""

from datetime import UTC, datetime

from inference.pool_report import report_of
from models_registry.fleet.pool import Pool, PooledModel
from models_registry.models import Model, ModelVersion, Node, Registration, Replica

VERSION = ModelVersion(model=Model(slug="m"), label="v")


def registration(model_id: str, requester: str, used: datetime | None = None) -> Registration:
    return Registration(model_id=model_id, requester=requester, version=VERSION, last_used_at=used)


def pool_of(*registrations: Registration, state: str = "ready") -> Pool:
    replica = Replica(
        version=VERSION, node=Node(name="local"), state=state, device="CPU", resident_bytes=5
    )
    model = PooledModel("m@v", [replica], list(registrations), "ready", queued=3)
    return Pool("ready", [model], ["local"], 4)


def test_report_has_loaded_models_by_registered_name() -> None:
    report = report_of(
        pool_of(registration("a", "x"), registration("a", "y"), registration("b", "x")),
        {"m@v": 1700000000.5},
    )
    assert report["worker_pool"] == {
        "enabled": True, "num_workers": 4, "active_workers": 1, "pending_tasks": 3,
        "nodes": ["local"],
    }  # fmt: skip
    assert report["loaded_models"]["a"] == {
        "reference_count": 2, "last_accessed": 1700000000.5, "source": "worker_pool",
        "device": "CPU", "version": "m@v",
    }  # fmt: skip
    assert report["loaded_models"]["b"]["reference_count"] == 1
    assert report["total_loaded_models"] == 1
    assert report["models"][0]["references"] == 3
    assert (report["initialized"], report["state"], report["fault"]) == (True, "ready", None)


def test_report_names_a_version_that_nobody_registered_by_its_key() -> None:
    report = report_of(pool_of(), {})
    assert report["loaded_models"]["m@v"]["reference_count"] == 0
    assert report["loaded_models"]["m@v"]["last_accessed"] is None


def test_report_leaves_out_of_loaded_what_is_not_ready() -> None:
    report = report_of(pool_of(registration("a", "x"), state="loading"), {})
    assert (report["loaded_models"], report["total_loaded_models"]) == ({}, 0)
    assert report["models"][0]["replicas"][0]["state"] == "loading"


def test_report_knows_the_last_use_from_the_rows_where_redis_lost_it() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    report = report_of(pool_of(registration("a", "x"), registration("b", "x", noon)), {})
    assert report["models"][0]["last_accessed"] == noon.timestamp()


def test_report_keeps_the_end_of_a_log_to_itself() -> None:
    pool = pool_of()
    pool.models[0].replicas[0].reason = "It died.\nIts log ends:\nTraceback"
    assert report_of(pool, {})["models"][0]["replicas"][0]["reason"] == "It died."
