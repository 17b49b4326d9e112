"""Downloads: asked for, claimed, reported, cancelled, and taken over from the dead."""

import dataclasses
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone
from django_q.models import Schedule

from models_registry import tasks
from models_registry.files import downloads
from models_registry.files import inspection as files
from models_registry.files.download_run import (
    DownloadStoppedError,
    Reporter,
    Speed,
    run_attempt,
    run_download,
)
from models_registry.files.downloads import (
    LEASE_SECONDS,
    MAX_LOSSES,
    cancel_download,
    claim_download,
    find_download,
    recent_downloads,
    retry_download,
    start_download,
)
from models_registry.gguf.reader import read_header
from models_registry.models import Download, Model, ModelVersion
from tests.models_registry.fleet_rows import a_version
from tests.models_registry.gguf_samples import write_llama

pytestmark = pytest.mark.django_db
State = Download.State


@pytest.fixture(autouse=True)
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks for the jobs cluster, which are not run."""
    names: list[str] = []
    monkeypatch.setattr(downloads, "async_task", lambda task, **_: names.append(task))
    return names


def a_download(tmp_path: Path, **fields: Any) -> Download:
    """A queued download of a file that is there."""
    version = a_version(file_state=ModelVersion.FileState.ABSENT)
    version.sources.create(url=write_llama(tmp_path / "here.gguf").as_uri())
    return Download.objects.create(version=version, **fields)


def claimed(download: Download) -> Download:
    """``download``, claimed."""
    taken = claim_download(timezone.now())
    assert taken == download
    return taken


def test_start_enqueues_a_task(
    enqueued: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    user = get_user_model().objects.create_user("ada")
    with django_capture_on_commit_callbacks(execute=True):
        download = start_download(a_version(), user)
    assert (download.state, download.requested_by) == ("queued", user)
    assert enqueued == ["models_registry.tasks.run_downloads"]


def test_start_joins_what_is_under_way(django_capture_on_commit_callbacks: Any) -> None:
    version = a_version()
    first = start_download(version)
    assert start_download(version) == first
    claim_download(timezone.now())
    assert start_download(version) == first
    cancel_download(first)
    assert start_download(version) != first


def test_cancel_notes_who_did_it(tmp_path: Path) -> None:
    user = get_user_model().objects.create_user("ada")
    assert cancel_download(a_download(tmp_path), user).cancelled_by == user


def test_start_without_redis_still_queues(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(downloads, "async_task", fail)
    with django_capture_on_commit_callbacks(execute=True):
        assert start_download(a_version()).state == "queued"


def test_two_active_downloads_of_a_version_are_impossible(tmp_path: Path) -> None:
    download = a_download(tmp_path)
    with pytest.raises(IntegrityError):
        Download.objects.create(version=download.version, state=State.RUNNING)


def test_claim_takes_the_oldest_once(tmp_path: Path) -> None:
    first, second = a_download(tmp_path), a_download(tmp_path)
    assert claimed(first).run_id != claimed(second).run_id
    assert claim_download(timezone.now()) is None


def test_claim_takes_over_what_shows_no_life(tmp_path: Path) -> None:
    download = a_download(tmp_path)
    before = claimed(download)
    soon = timezone.now() + timedelta(seconds=LEASE_SECONDS - 5)
    assert claim_download(soon) is None
    later = timezone.now() + timedelta(seconds=LEASE_SECONDS + 5)
    after = claim_download(later)
    assert after is not None
    assert after.run_id != before.run_id
    assert (after.losses, after.started_at) == (1, before.started_at)


def test_claim_gives_up_what_kills_its_process_again_and_again(tmp_path: Path) -> None:
    download = a_download(tmp_path)
    long_ago = timezone.now() - timedelta(hours=1)
    Download.objects.update(state=State.RUNNING, seen_at=long_ago, losses=MAX_LOSSES)
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
    assert claim_download(timezone.now()) is None
    download.refresh_from_db()
    assert download.state == "failed"
    assert "died" in download.error
    version = ModelVersion.objects.get()
    assert (version.file_state, version.file_error) == ("failed", download.error)
    assert download.finished_at


def test_run_brings_the_file_and_ends_done(tmp_path: Path) -> None:
    download = claimed(a_download(tmp_path))
    run_download(download, tmp_path / "models")
    download.refresh_from_db()
    assert (download.state, download.error, download.phase) == ("done", "", "")
    assert download.done_bytes == download.total_bytes == download.version.size_bytes
    assert (tmp_path / "models" / "a.gguf").is_file()


def test_run_that_fails_says_why(tmp_path: Path) -> None:
    download = claimed(a_download(tmp_path))
    (tmp_path / "here.gguf").unlink()
    run_download(download, tmp_path / "models")
    download.refresh_from_db()
    assert download.state == "failed"
    assert "here.gguf cannot be read" in download.error


def test_run_that_fails_leaves_the_file_that_serves(tmp_path: Path) -> None:
    first = claimed(a_download(tmp_path))
    run_download(first, tmp_path / "models")
    ModelVersion.objects.update(sha256="0" * 64)
    again = claimed(retry_download(first))
    run_download(again, tmp_path / "models")
    again.refresh_from_db()
    assert again.state == "failed"
    assert "is not the expected file" in again.error
    assert (again.version.file_state, again.version.file_error) == ("ready", "")


Deletion = Callable[[pytest.MonkeyPatch, Callable[..., object]], None]


def before_it_begins(_: pytest.MonkeyPatch, delete: Callable[..., object]) -> None:
    delete()


def while_it_is_fetched(patched: pytest.MonkeyPatch, delete: Callable[..., object]) -> None:
    fetch = files.fetch
    patched.setattr(files, "fetch", lambda *args, **named: (delete(), fetch(*args, **named))[1])


def when_it_is_looked_at(patched: pytest.MonkeyPatch, delete: Callable[..., object]) -> None:
    patched.setattr(files, "read_header", lambda path: (delete(), read_header(path))[1])


@pytest.mark.parametrize("deletion", [before_it_begins, while_it_is_fetched, when_it_is_looked_at])
@pytest.mark.parametrize("row", ["version", "model"])
def test_deletion_ends_the_download_and_no_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    deletion: Deletion,
    row: str,
) -> None:
    deleted, other = a_download(tmp_path), a_download(tmp_path)
    models = Model.objects.filter(pk=deleted.version.model_id)
    versions = ModelVersion.objects.filter(pk=deleted.version_id)
    first = claimed(deleted)
    with monkeypatch.context() as patched:
        deletion(patched, (models if row == "model" else versions).delete)
        run_download(first, tmp_path / "models")
    run_download(claimed(other), tmp_path / "models")
    other.refresh_from_db()
    assert list(Download.objects.all()) == [other]
    assert other.state == "done"
    assert not versions.exists()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_run_that_is_cancelled_stops_and_stays_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = claimed(a_download(tmp_path))
    cancel_download(download)
    run_download(download, tmp_path / "models")
    download.refresh_from_db()
    assert download.state == "cancelled"
    assert not (tmp_path / "models" / "a.gguf").exists()
    assert ModelVersion.objects.get().file_state == "absent"


def test_run_of_an_attempt_that_was_given_up_changes_nothing(tmp_path: Path) -> None:
    lost = claimed(a_download(tmp_path))
    claim_download(timezone.now() + timedelta(seconds=LEASE_SECONDS + 5))
    run_download(lost, tmp_path / "models")
    assert Download.objects.get().state == "running"


def test_cancel_needs_no_process_to_be_alive(tmp_path: Path) -> None:
    download = claimed(a_download(tmp_path))
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
    assert cancel_download(download).state == "cancelled"
    assert ModelVersion.objects.get().file_state == "absent"


def test_cancel_puts_back_why_the_file_did_not_come_before(tmp_path: Path) -> None:
    first = claimed(a_download(tmp_path))
    (tmp_path / "here.gguf").unlink()
    run_download(first, tmp_path / "models")
    again = claimed(retry_download(first))
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
    cancel_download(again)
    version = ModelVersion.objects.get()
    assert version.file_state == "failed"
    assert "here.gguf cannot be read" in version.file_error


def test_run_that_was_cancelled_leaves_the_state_to_the_next(tmp_path: Path) -> None:
    first = claimed(a_download(tmp_path))

    def replaced(*_: object) -> None:
        cancel_download(first)
        claimed(retry_download(first))
        ModelVersion.objects.update(file_state=ModelVersion.FileState.FETCHING)
        raise DownloadStoppedError

    with pytest.raises(DownloadStoppedError):
        run_attempt(first, tmp_path / "models", replaced)
    assert ModelVersion.objects.get().file_state == "fetching"


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_cancel_of_what_has_ended_changes_nothing(tmp_path: Path, state: str) -> None:
    download = a_download(tmp_path, state=state)
    assert cancel_download(download).state == state
    assert download.finished_at is None


def test_retry_is_a_new_download(tmp_path: Path) -> None:
    failed = a_download(tmp_path, state=State.FAILED, error="no network")
    again = retry_download(failed)
    assert (again.state, again.version) == ("queued", failed.version)
    assert [row.pk for row in recent_downloads()] == [again.pk, failed.pk]
    assert find_download(failed.pk) == failed


class Clock:
    """Time that goes on when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_reporter_writes_at_most_once_a_second(
    tmp_path: Path, django_assert_num_queries: Any
) -> None:
    download, clock = claimed(a_download(tmp_path)), Clock()
    report = Reporter(download, clock)
    with django_assert_num_queries(2):
        for step in range(16):
            report(step * 1000, 100_000, "downloading")
            clock.now += 0.125
    download.refresh_from_db()
    assert (download.done_bytes, download.bytes_per_second) == (8000, 8000)
    assert download.eta_seconds == pytest.approx(11.5)


def test_reporter_tells_an_attempt_that_the_row_is_no_longer_its_own(tmp_path: Path) -> None:
    download, clock = claimed(a_download(tmp_path)), Clock()
    report = Reporter(download, clock)
    cancel_download(download)
    with pytest.raises(DownloadStoppedError):
        report(1, 2, "downloading")


def test_reporter_goes_on_while_postgres_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = claimed(a_download(tmp_path))
    report = Reporter(download, Clock())

    def away(*_: object, **__: object) -> int:
        raise OperationalError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(QuerySet, "update", away)
        patched.setattr("models_registry.files.download_run.connection.close", lambda: None)
        report(1, 2, "downloading")


def test_speed_is_smooth_and_starts_afresh() -> None:
    speed = Speed()
    assert [speed.update(t, n) for t, n in [(0, 0), (1, 1000), (2, 3000)]] == [None, 1000, 1300]
    assert speed.update(3, 0) is None
    assert speed.update(4, 500) == 500


def test_task_runs_all_that_waits(tmp_path: Path, settings: Any) -> None:
    settings.INFERENCE = dataclasses.replace(settings.INFERENCE, models_dir=tmp_path / "models")
    for _ in range(2):
        a_download(tmp_path)
    assert tasks.run_downloads() == 2
    assert set(Download.objects.values_list("state", flat=True)) == {"done"}


def test_schedule_runs_every_minute() -> None:
    tasks.schedule_downloads()
    tasks.schedule_downloads()
    schedule = Schedule.objects.get(name="downloads")
    assert (schedule.func, schedule.cluster) == (downloads.TASK, "jobs")
    assert (schedule.schedule_type, schedule.minutes) == (Schedule.MINUTES, 1)
