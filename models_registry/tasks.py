"""Tasks of the registry in the jobs cluster."""

from typing import Any

from django.conf import settings
from django.utils import timezone
from django_q.models import Schedule

from models_registry.files.download_run import run_download
from models_registry.files.downloads import JOBS_CLUSTER, TASK, claim_download


def run_downloads() -> int:
    """Run queued downloads until none is left; returns how many, for django-q's record.

    Several workers may do this at once.
    """
    count = 0
    while (download := claim_download(timezone.now())) is not None:
        run_download(download, settings.INFERENCE.models_dir)
        count += 1
    return count


def schedule_downloads(**_: Any) -> None:
    """Call ``run_downloads`` every minute, for downloads whose process died."""
    Schedule.objects.update_or_create(
        name="downloads",
        defaults={
            "func": TASK,
            "cluster": JOBS_CLUSTER,
            "schedule_type": Schedule.MINUTES,
            "minutes": 1,
            # Its results would push others out of the list.
            "kwargs": "{'q_options': {'save': False}}",
        },
    )
