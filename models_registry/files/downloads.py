"""Downloads of versions' files: the entrance for whoever wants, watches or stops one.

The row is the record and the queue; the task on the jobs cluster is a bell that may ring for
nothing, and is rung again every minute, so that what a dead process left goes on.
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
"""Silence after which an attempt counts as lost; longer than any wait for a server."""
MAX_LOSSES: Final = 10
LISTED: Final = 100


def start_download(version: ModelVersion, actor: Any = None) -> Download:
    """Ask for the file of ``version``; one download serves all who ask while it lasts.

    A file that is there is verified.

    Args:
        version: whose file.
        actor: the user who asks; None for a program.

    Returns:
        The new download, or the one that is under way.
    """
    with transaction.atomic():
        # Two who ask at once take turns here.
        ModelVersion.objects.select_for_update(of=("self",)).get(pk=version.pk)
        active = Download.objects.filter(version=version, state__in=ACTIVE).first()
        if active is not None:
            return active
        with acting(actor):
            download = Download.objects.create(version=version, requested_by=actor)
        transaction.on_commit(_ring)
    return download


def cancel_download(download: Download, actor: Any = None) -> Download:
    """Stop a download; what has come is kept for the next. One that has ended stays as it is.

    Args:
        download: which.
        actor: the user who stops it; None for a program.
    """
    with transaction.atomic():
        row = _known().select_for_update(of=("self",)).filter(pk=download.pk).first()
        if row is not None and row.is_active:
            row.state, row.finished_at = Download.State.CANCELLED, timezone.now()
            row.cancelled_by = actor
            with acting(actor):
                row.save(update_fields=["state", "finished_at", "cancelled_by"])
            # Whoever runs it may be dead, and can then not do this.
            release_file(row.version)
    download.refresh_from_db()
    return download


def retry_download(download: Download, actor: Any = None) -> Download:
    """Ask once more for what failed or was cancelled; the old row stays as it ended."""
    return start_download(download.version, actor)


def find_download(download_id: uuid.UUID) -> Download | None:
    """The download of this id."""
    return Download.objects.select_related(*_SHOWN).filter(pk=download_id).first()


def recent_downloads() -> list[Download]:
    """The newest downloads, newest first."""
    return list(Download.objects.select_related(*_SHOWN)[:LISTED])


_SHOWN: Final = ("version__model", "requested_by", "cancelled_by")


def claim_download(now: datetime) -> Download | None:
    """Take the download that has waited longest: one that is queued, or whose attempt is lost.

    Returns:
        The download with a ``run_id`` of its own; None when there is nothing to do.
    """
    waiting = _known().select_for_update(skip_locked=True, of=("self",)).filter(_is_waiting(now))
    while True:
        with transaction.atomic():
            download = waiting.order_by("requested_at").first()
            if download is None:
                return None
            _take(download, now)
        if download.is_active:
            return download
        _give_up(download)


def claim_for(version: ModelVersion, now: datetime) -> Download | None:
    """Take the download of one version's file, a new one unless one waits.

    Returns:
        The download with a ``run_id`` of its own; None while another process runs it.
    """
    try:
        with transaction.atomic():
            rows = _known().select_for_update(of=("self",)).filter(version=version)
            download = rows.filter(state__in=ACTIVE).first()
            if download is None:
                download = Download(version=version)
            elif not rows.filter(_is_waiting(now), pk=download.pk).exists():
                return None
            _take(download, now)
    except IntegrityError:  # somebody else has begun one meanwhile
        return None
    if download.is_active:
        return download
    _give_up(download)
    return None


def _give_up(download: Download) -> None:
    """Say why at the version; a file that serves goes on serving."""
    if download.version.file_state == ModelVersion.FileState.FETCHING:
        note_failure(download.version, download.error)


def _known() -> QuerySet[Download]:
    """Read with their names: they may be deleted while it runs."""
    return Download.objects.select_related("version__model", "requested_by")


def _is_waiting(now: datetime) -> Q:
    """Queued, or its attempt has shown no life for so long that it is lost."""
    silent = Q(seen_at__lt=now - timedelta(seconds=LEASE_SECONDS))
    return Q(state=Download.State.QUEUED) | Q(state=Download.State.RUNNING) & silent


def _take(download: Download, now: datetime) -> None:
    """Make this process the one that runs it, or fail it where all who did have died."""
    if download.state == Download.State.RUNNING:
        download.losses += 1
    download.run_id, download.seen_at = uuid.uuid4(), now
    download.started_at = download.started_at or now
    download.state = Download.State.RUNNING
    if download.losses > MAX_LOSSES:
        download.state, download.finished_at = Download.State.FAILED, now
        download.error = f"Its process died {download.losses} times. See the jobs log."
    download.save()


def _ring() -> None:
    try:
        async_task(TASK, cluster=JOBS_CLUSTER, task_name="downloads", q_options={"save": False})
    except redis.RedisError as error:
        logger.warning("Redis is away, the download begins when it is back: %s", error)
