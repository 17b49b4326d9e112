"""One attempt at a download: runs it, and keeps its row up to date."""

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from models_registry.audit import acting
from models_registry.errors import FetchStoppedError, RegistryError
from models_registry.files.downloads import cancel_download, claim_for
from models_registry.files.inspection import fetch_file, release_file
from models_registry.gguf.reader import GGUFError
from models_registry.models import ACTIVE, Download, ModelVersion
from models_registry.sources import Phase, ProgressCallback, SourceError, ignore_progress

logger = logging.getLogger(__name__)

_REPORT_SECONDS: Final = 1.0
# How much the newest second counts in the speed that is shown.
_SMOOTHING: Final = 0.3


class DownloadStoppedError(Exception):
    """The download was cancelled, or another attempt has taken it over."""


class Speed:
    """Bytes per second, smoothed, from counts that go up; a count that goes down starts afresh."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._value: float | None = None

    def update(self, now_seconds: float, done_bytes: int) -> int | None:
        """The speed with this count; None before there are two."""
        last, self._last = self._last, (now_seconds, done_bytes)
        if last is None or done_bytes < last[1] or now_seconds <= last[0]:
            self._value = None
            return None
        newest = (done_bytes - last[1]) / (now_seconds - last[0])
        known = newest if self._value is None else self._value
        self._value = known + _SMOOTHING * (newest - known)
        return int(self._value)


class Reporter:
    """A ``ProgressCallback`` that writes to the row at most about once a second.

    Raises ``DownloadStoppedError`` when the row is no longer this attempt's.
    """

    def __init__(
        self, download: Download, run_id: uuid.UUID, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._own = Download.objects.filter(
            pk=download.pk, run_id=run_id, state=Download.State.RUNNING
        )
        self._clock = clock
        self._next_at = clock()
        self._speed = Speed()

    def __call__(self, done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
        """Note where the fetch stands."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + _REPORT_SECONDS
        speed = self._speed.update(now, done_bytes) if phase == "downloading" else None
        fields: dict[str, Any] = {
            "phase": phase,
            "done_bytes": done_bytes,
            "total_bytes": total_bytes,
            "bytes_per_second": speed,
            "seen_at": timezone.now(),
        }
        try:
            still_own = self._own.update(**fields)
        except (OperationalError, InterfaceError) as error:
            # The bytes do not pass through Postgres: it may come back before they are all here.
            logger.warning("progress is not noted while Postgres is away: %s", error)
            connection.close()
            return
        if not still_own:
            raise DownloadStoppedError

    def end(self, state: str, **fields: Any) -> None:
        """Note how the attempt ended, unless the row is no longer its own."""
        now = timezone.now()
        self._own.update(
            state=state, phase="", bytes_per_second=None, seen_at=now, finished_at=now, **fields
        )


def run_download(download: Download, models_dir: Path) -> None:
    """Fetch the file of a download that was claimed; failures are kept in its row."""
    key = download.version.key
    try:
        attempt(download, models_dir)
    except DownloadStoppedError:
        logger.info("the download of %s was stopped", key)
    except (SourceError, GGUFError, RegistryError) as error:
        logger.warning("the download of %s failed: %s", key, error)
    except Exception:
        logger.exception("the download of %s failed", key)
    else:
        logger.info("the file of %s is here", key)


def attempt(
    download: Download, models_dir: Path, on_progress: ProgressCallback = ignore_progress
) -> None:
    """Fetch the file of a download that was claimed, for whom it was asked for.

    How it ends is kept in its row, and raised; but the row of what is stopped by ``on_progress``
    or a signal stays as it is.

    Args:
        download: with its ``run_id``.
        models_dir: where to.
        on_progress: see ``ProgressCallback``.

    Raises:
        DownloadStoppedError: the row is no longer this attempt's.
        SourceError, GGUFError, RegistryError: as ``fetch_file``.
    """
    if download.run_id is None:
        raise ValueError("only a download that was claimed can be run")
    reporter = Reporter(download, download.run_id)
    version = download.version

    def report(done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
        reporter(done_bytes, total_bytes, phase)
        on_progress(done_bytes, total_bytes, phase)

    try:
        with acting(download.requested_by):
            fetch_file(version, models_dir, report)
    except (DownloadStoppedError, FetchStoppedError):
        raise
    except (SourceError, GGUFError, RegistryError) as error:
        reporter.end(Download.State.FAILED, error=str(error))
        raise
    except Exception:
        reporter.end(Download.State.FAILED, error="A fault of the service; see the log.")
        release_file(version)
        raise
    size_bytes = version.size_bytes
    reporter.end(Download.State.DONE, done_bytes=size_bytes, total_bytes=size_bytes)


def fetch_here(
    version: ModelVersion,
    models_dir: Path,
    on_progress: ProgressCallback,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch a version's file in this process, as a download that others can watch and cancel.

    Where another process is at it already, this one shows how far that is, and goes on with what
    it leaves.

    Args:
        version: whose file.
        models_dir: where to.
        on_progress: see ``ProgressCallback``; what it raises cancels the download.
        pause: waits for so many seconds.

    Raises:
        SourceError, GGUFError, RegistryError: as ``fetch_file``; or somebody cancelled it.
    """
    download = _claimed(version, on_progress, pause)
    download.version = version
    try:
        attempt(download, models_dir, on_progress)
    except DownloadStoppedError:
        raise _cancelled(version) from None
    except (KeyboardInterrupt, FetchStoppedError):
        cancel_download(download)
        raise


def _claimed(
    version: ModelVersion, on_progress: ProgressCallback, pause: Callable[[float], None]
) -> Download:
    """A download of the version's file for this process to run, when no other does."""
    other: Download | None = None
    while True:
        try:
            version.refresh_from_db()
        except ModelVersion.DoesNotExist:
            raise RegistryError("The version was deleted meanwhile.") from None
        if other is not None:
            ended = Download.objects.filter(pk=other.pk, state=Download.State.CANCELLED)
            if ended.exists():
                raise _cancelled(version)
        download = claim_for(version, timezone.now())
        if download is not None:
            return download
        other = version.downloads.filter(state__in=ACTIVE).first()
        if other is not None:
            phase = cast("Phase", other.phase or "waiting")
            on_progress(other.done_bytes, other.total_bytes, phase)
            pause(_REPORT_SECONDS)


def _cancelled(version: ModelVersion) -> RegistryError:
    return RegistryError(f"The download of {version.key} was cancelled, or goes on elsewhere.")
