"""Downloads of versions' files: the entrance for whoever wants, watches or stops one.

The row is the record and the queue; the task on the jobs cluster is a bell that may ring for
nothing, and is rung again every minute, so that what a dead process left goes on.
"""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import redis
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django_q.tasks import async_task

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
        download = Download.objects.create(version=version, requested_by=actor)
        transaction.on_commit(_ring)
    return download


def cancel_download(download: Download, actor: Any = None) -> Download:
    """Stop a download; what has come is kept for the next. One that has ended stays as it is.

    Args:
        download: which.
        actor: the user who stops it; None for a program.
    """
    now = timezone.now()
    with transaction.atomic():
        stopped = Download.objects.filter(pk=download.pk, state__in=ACTIVE).update(
            state=Download.State.CANCELLED, finished_at=now, cancelled_by=actor
        )
        if stopped:
            # Whoever runs it may be dead, and can then not do this.
            ModelVersion.objects.filter(
                pk=download.version_id, file_state=ModelVersion.FileState.FETCHING
            ).update(file_state=ModelVersion.FileState.ABSENT)
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
    silent = Q(seen_at__lt=now - timedelta(seconds=LEASE_SECONDS))
    is_lost = Q(state=Download.State.RUNNING) & silent
    # Read now, with their names: they may be deleted while it runs.
    known = Download.objects.select_related("version__model")
    waiting = known.select_for_update(skip_locked=True, of=("self",))
    while True:
        with transaction.atomic():
            rows = waiting.filter(Q(state=Download.State.QUEUED) | is_lost)
            download = rows.order_by("requested_at").first()
            if download is None:
                return None
            if download.state == Download.State.RUNNING:
                download.losses += 1
            download.run_id, download.seen_at = uuid.uuid4(), now
            download.started_at = download.started_at or now
            download.state = Download.State.RUNNING
            if download.losses > MAX_LOSSES:
                download.state, download.finished_at = Download.State.FAILED, now
                download.error = f"Its process died {download.losses} times. See the jobs log."
            download.save()
        if download.state == Download.State.RUNNING:
            return download


def _ring() -> None:
    try:
        async_task(TASK, cluster=JOBS_CLUSTER, task_name="downloads", q_options={"save": False})
    except redis.RedisError as error:
        logger.warning("Redis is away, the download begins when it is back: %s", error)
