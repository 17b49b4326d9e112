"""Start, watch, cancel and claim downloads; their rows are the queue.

The task on the jobs cluster runs all waiting downloads. It runs every minute, too, for lost ones.
"""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import redis
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from models_registry.audit import acting
from models_registry.files.inspection import note_failure, release_file
from models_registry.models import ACTIVE, Download, ModelVersion

logger = logging.getLogger(__name__)

JOBS_CLUSTER: Final = "jobs"
TASK: Final = "models_registry.tasks.run_downloads"
LEASE_SECONDS: Final = 60.0
"""Age of ``seen_at`` after which an attempt is lost; longer than any wait for a server."""
MAX_LOSSES: Final = 10
LISTED: Final = 100


def start_download(version: ModelVersion, actor: Any = None) -> Download:
    """Queue a download, which verifies a present file; returns the active one if there is one."""
    with transaction.atomic():
        # The lock makes simultaneous calls take turns.
        ModelVersion.objects.select_for_update(of=("self",)).get(pk=version.pk)
        active = Download.objects.filter(version=version, state__in=ACTIVE).first()
        if active is not None:
            return active
        with acting(actor):
            download = Download.objects.create(version=version, requested_by=actor)
        transaction.on_commit(_enqueue_task)
    return download


def cancel_download(download: Download, actor: Any = None) -> Download:
    """Cancel a download if it is active; its bytes are kept for the next download."""
    with transaction.atomic():
        row = _with_names().select_for_update(of=("self",)).filter(pk=download.pk).first()
        if row is not None and row.is_active:
            row.state, row.finished_at = Download.State.CANCELLED, timezone.now()
            row.cancelled_by = actor
            with acting(actor):
                row.save(update_fields=["state", "finished_at", "cancelled_by"])
            # Here, because the process that runs it may be dead.
            release_file(row.version)
    download.refresh_from_db()
    return download


def retry_download(download: Download, actor: Any = None) -> Download:
    return start_download(download.version, actor)


def find_download(download_id: uuid.UUID) -> Download | None:
    return Download.objects.select_related(*_SHOWN).filter(pk=download_id).first()


def recent_downloads() -> list[Download]:
    return list(Download.objects.select_related(*_SHOWN)[:LISTED])


_SHOWN: Final = ("version__model", "requested_by", "cancelled_by")


def claim_download(now: datetime) -> Download | None:
    """Claim the oldest queued or lost download, with a new ``run_id``; None without one."""
    waiting = _with_names().select_for_update(skip_locked=True, of=("self",))
    while True:
        with transaction.atomic():
            download = waiting.filter(_is_waiting(now)).order_by("requested_at").first()
            if download is None or _claim(download, now):
                return download


def claim_for(version: ModelVersion, now: datetime) -> Download | None:
    """Claim the active download of a version, or a new one; None while another process runs it."""
    try:
        with transaction.atomic():
            rows = _with_names().select_for_update(of=("self",)).filter(version=version)
            download = rows.filter(state__in=ACTIVE).first()
            if download is None:
                download = Download(version=version)
            elif not rows.filter(_is_waiting(now), pk=download.pk).exists():
                return None
            return download if _claim(download, now) else None
    except IntegrityError:  # another process made one meanwhile
        return None


def _with_names() -> QuerySet[Download]:
    """Downloads with the rows that they name, which may be deleted while the download runs."""
    return Download.objects.select_related("version__model", "requested_by")


def _is_waiting(now: datetime) -> Q:
    is_lost = Q(seen_at__lt=now - timedelta(seconds=LEASE_SECONDS))
    return Q(state=Download.State.QUEUED) | Q(state=Download.State.RUNNING) & is_lost


def _claim(download: Download, now: datetime) -> bool:
    """Start an attempt; False if the download fails because too many attempts were lost."""
    if download.state == Download.State.RUNNING:
        download.losses += 1
    download.run_id, download.seen_at = uuid.uuid4(), now
    download.started_at = download.started_at or now
    download.state = Download.State.RUNNING
    is_failed = download.losses > MAX_LOSSES
    if is_failed:
        download.state, download.finished_at = Download.State.FAILED, now
        download.error = f"Its process died {download.losses} times. See the jobs log."
    download.save()
    if is_failed and download.version.file_state == ModelVersion.FileState.FETCHING:
        note_failure(download.version, download.error)
    return not is_failed


def _enqueue_task() -> None:
    try:
        async_task(TASK, cluster=JOBS_CLUSTER, task_name="downloads", q_options={"save": False})
    except redis.RedisError as error:
        logger.warning("Redis is unreachable; the download starts once it is back: %s", error)
