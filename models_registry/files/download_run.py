"""Run one attempt at a download and keep its row up to date."""

import logging
import time
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
# Weight of the newest second in the speed.
_SMOOTHING: Final = 0.3


class DownloadStoppedError(Exception):
    """The download was cancelled, or another attempt has claimed it."""


class Speed:
    """Smoothed bytes per second from rising counts; a lower count starts again."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None
        self._value: float | None = None

    def update(self, now_seconds: float, done_bytes: int) -> int | None:
        last, self._last = self._last, (now_seconds, done_bytes)
        if last is None or done_bytes < last[1] or now_seconds <= last[0]:
            self._value = None
            return None
        newest = (done_bytes - last[1]) / (now_seconds - last[0])
        known = newest if self._value is None else self._value
        self._value = known + _SMOOTHING * (newest - known)
        return int(self._value)


class Reporter:
    """Writes progress to the row every second. Raises once another attempt owns the row."""

    def __init__(self, download: Download, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = Download.objects.filter(
            pk=download.pk, run_id=download.run_id, state=Download.State.RUNNING
        )
        self._clock = clock
        self._next_at = clock()
        self._speed = Speed()

    def __call__(self, done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + _REPORT_SECONDS
        speed = self._speed.update(now, done_bytes) if phase == "downloading" else None
        try:
            still_own = self._own.update(
                phase=phase,
                done_bytes=done_bytes,
                total_bytes=total_bytes,
                bytes_per_second=speed,
                seen_at=timezone.now(),
            )
        except (OperationalError, InterfaceError) as error:
            # The download does not need Postgres before its end.
            logger.warning("Postgres is unreachable; progress is not saved: %s", error)
            connection.close()
            return
        if not still_own:
            raise DownloadStoppedError

    def end(self, state: str, **fields: Any) -> None:
        now = timezone.now()
        self._own.update(
            state=state, phase="", bytes_per_second=None, seen_at=now, finished_at=now, **fields
        )


def run_download(download: Download, models_dir: Path) -> None:
    """Run a claimed download; errors are logged and saved in its row."""
    key = download.version.key
    try:
        run_attempt(download, models_dir)
    except DownloadStoppedError:
        logger.info("the download of %s was stopped", key)
    except (SourceError, GGUFError, RegistryError) as error:
        logger.warning("the download of %s failed: %s", key, error)
    except Exception:
        logger.exception("the download of %s failed", key)
    else:
        logger.info("the file of %s is here", key)


def run_attempt(
    download: Download, models_dir: Path, on_progress: ProgressCallback = ignore_progress
) -> None:
    """Fetch the file of a claimed download in the name of its user.

    Errors of ``fetch_file`` are saved in its row and raised; ``DownloadStoppedError`` if the row no
    longer belongs to this attempt. If ``on_progress`` or a signal stops it, the row stays.
    """
    if download.run_id is None:
        raise ValueError("only a download that was claimed can be run")
    reporter = Reporter(download)
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
        reporter.end(Download.State.FAILED, error="Internal error; see the log.")
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
    """Fetch a version's file in this process, with a row that others can watch and cancel.

    While another process runs the download, this one reports its progress, and continues the
    download if that process is lost. An exception of ``on_progress`` cancels the download.
    Raises the errors of ``fetch_file``, and ``RegistryError`` after a cancel.
    """
    download = _claimed(version, on_progress, pause)
    download.version = version
    try:
        run_attempt(download, models_dir, on_progress)
    except DownloadStoppedError:
        raise _cancelled(version) from None
    except (KeyboardInterrupt, FetchStoppedError):
        cancel_download(download)
        raise


def _claimed(
    version: ModelVersion, on_progress: ProgressCallback, pause: Callable[[float], None]
) -> Download:
    """Claim a download of the version's file, once no other process runs it."""
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
    return RegistryError(f"The download of {version.key} was cancelled or claimed elsewhere.")
