"""A cluster refuses to start in an unfit process or with wrong settings."""

import sys
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django_q import cluster as django_q_cluster
from django_q.conf import Conf

from inference.cluster import cluster
from inference.cluster.cluster import GuardedCluster, check_django_q
from inference.cluster.sentinel import stop_requested


def _unstarted() -> GuardedCluster:
    """A cluster as the command makes it, without touching the signals of the test run."""
    return GuardedCluster.__new__(GuardedCluster)


def test_installed_django_q_is_accepted() -> None:
    assert check_django_q() == []


def test_another_django_q_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "version", lambda _name: "1.12.0")
    (problem,) = check_django_q()
    assert "django-q2 1.12.0 is installed" in problem
    assert "django-q2==1.11.*" in problem


@pytest.mark.parametrize("name", ["Sentinel", "worker", "pusher", "monitor", "scheduler"])
def test_changed_internal_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(django_q_cluster, name, check_django_q)
    assert any(f"django_q.cluster.{name} does not take" in each for each in check_django_q())
    monkeypatch.delattr(django_q_cluster, name)
    assert any(f"django_q.cluster.{name} does not take" in each for each in check_django_q())


def test_missing_sentinel_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(django_q_cluster.Sentinel, "reincarnate")
    assert check_django_q() == ["django_q.cluster.Sentinel has no method reincarnate"]


def test_prefetching_more_than_one_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conf, "QUEUE_LIMIT", 4)
    assert check_django_q() == ["Q_CLUSTER['queue_limit'] is 4: set it to 1"]


def test_run_with_a_thread_before_the_fork_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="early-bird")
    thread.start()
    try:
        with pytest.raises(ImproperlyConfigured, match=r"before the fork.*early-bird"):
            _unstarted().run()
    finally:
        over.set()
        thread.join()


def test_run_with_llama_cpp_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", sys)
    with pytest.raises(ImproperlyConfigured, match="llama_cpp is imported before the fork"):
        _unstarted().run()


def test_stop_deadline_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="stop_seconds must be at least 2"):
        GuardedCluster("jobs", stop_seconds=1.9)


def test_stop_is_not_requested_outside_a_worker() -> None:
    assert stop_requested() is False
