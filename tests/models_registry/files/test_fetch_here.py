"""Files fetched by the process that wants them, as downloads that others can see."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from models_registry.errors import RegistryError
from models_registry.files.download_run import fetch_here, run_download
from models_registry.files.downloads import (
    LEASE_SECONDS,
    cancel_download,
    claim_download,
    claim_for,
    start_download,
)
from models_registry.models import Download, ModelVersion
from models_registry.sources import SourceError
from tests.models_registry.fleet_rows import a_version
from tests.models_registry.gguf_samples import write_llama

pytestmark = pytest.mark.django_db
State = Download.State


def ignore(*_: object) -> None:
    """Progress that nobody looks at."""


def no_pause(_seconds: float) -> None:
    pytest.fail("must not wait")


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    """A version whose file is to be had."""
    version = a_version(file_state="absent", header=None)
    version.sources.create(url=write_llama(tmp_path / "here.gguf").as_uri())
    return version


def after_a_pause(*acts: Callable[[], object]) -> Callable[[float], None]:
    """Acts that happen while a caller waits, one at each wait."""
    waiting = iter(acts)

    def pause(_seconds: float) -> None:
        next(waiting)()

    return pause


def test_fetch_is_a_download_that_has_ended(version: ModelVersion, tmp_path: Path) -> None:
    fetch_here(version, tmp_path / "models", ignore, no_pause)
    download = Download.objects.get()
    assert (download.state, download.done_bytes) == (State.DONE, version.size_bytes)
    assert version.file_state == "ready"


def test_fetch_shows_others_how_far_it_is(version: ModelVersion, tmp_path: Path) -> None:
    seen: list[str] = []
    fetch_here(version, tmp_path, lambda *_: seen.append(Download.objects.get().state), no_pause)
    assert set(seen) == {State.RUNNING}


def test_fetch_that_fails_says_why_in_both_places(version: ModelVersion, tmp_path: Path) -> None:
    (tmp_path / "here.gguf").unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        fetch_here(version, tmp_path, ignore, no_pause)
    assert Download.objects.get().state == State.FAILED
    assert "cannot be read" in Download.objects.get().error


def test_fetch_that_is_interrupted_is_cancelled(version: ModelVersion, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_here(version, tmp_path / "models", interrupt, no_pause)
    assert Download.objects.get().state == State.CANCELLED
    assert ModelVersion.objects.get().file_state == "absent"


def test_fetch_takes_what_is_queued(version: ModelVersion, tmp_path: Path) -> None:
    queued = start_download(version)
    fetch_here(version, tmp_path / "models", ignore, no_pause)
    assert Download.objects.get() == queued
    assert claim_download(timezone.now()) is None


def test_fetch_waits_for_who_is_at_it(version: ModelVersion, tmp_path: Path) -> None:
    other = claim_for(version, timezone.now())
    assert other is not None
    Download.objects.update(done_bytes=5, total_bytes=7, phase="downloading")
    seen: list[tuple[object, ...]] = []

    fetch_here(
        version,
        tmp_path / "models",
        lambda *progress: seen.append(progress),
        after_a_pause(lambda: run_download(other, tmp_path / "models")),
    )

    assert seen[0] == (5, 7, "downloading")
    assert list(Download.objects.values_list("state", flat=True)) == [State.DONE] * 2


def test_fetch_goes_on_with_what_is_lost(version: ModelVersion, tmp_path: Path) -> None:
    lost = claim_for(version, timezone.now())
    assert lost is not None

    def grow_old() -> None:
        then = timezone.now() - timedelta(seconds=LEASE_SECONDS + 5)
        Download.objects.update(seen_at=then)

    fetch_here(version, tmp_path / "models", ignore, after_a_pause(grow_old))

    download = Download.objects.get()
    assert (download, download.losses, download.state) == (lost, 1, State.DONE)


def test_fetch_that_is_lost_is_taken_over_by_the_cluster(
    version: ModelVersion, tmp_path: Path
) -> None:
    assert claim_for(version, timezone.now()) is not None
    ModelVersion.objects.update(file_state="fetching")
    later = timezone.now() + timedelta(seconds=LEASE_SECONDS + 5)
    download = claim_download(later)
    assert download is not None
    run_download(download, tmp_path / "models")
    assert ModelVersion.objects.get().file_state == "ready"


def test_fetch_ends_when_what_it_waits_for_is_cancelled(
    version: ModelVersion, tmp_path: Path
) -> None:
    other = claim_for(version, timezone.now())
    assert other is not None
    with pytest.raises(RegistryError, match="was cancelled"):
        fetch_here(version, tmp_path, ignore, after_a_pause(lambda: cancel_download(other)))
    assert not (tmp_path / version.file_name).exists()


def test_fetch_ends_when_its_version_is_deleted(version: ModelVersion, tmp_path: Path) -> None:
    assert claim_for(version, timezone.now()) is not None
    delete = after_a_pause(ModelVersion.objects.all().delete)
    with pytest.raises(RegistryError, match="deleted meanwhile"):
        fetch_here(version, tmp_path, ignore, delete)


def test_fetch_that_somebody_cancels_stops(
    version: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models_registry.files.download_run._REPORT_SECONDS", 0)

    def cancel(*_: object) -> None:
        cancel_download(Download.objects.get())

    write_llama(tmp_path / "here.gguf", **{"llama.padding": [0] * 400_000})
    with pytest.raises(RegistryError, match="was cancelled"):
        fetch_here(version, tmp_path / "models", cancel, no_pause)
    assert Download.objects.get().state == State.CANCELLED
    assert ModelVersion.objects.get().file_state == "absent"
