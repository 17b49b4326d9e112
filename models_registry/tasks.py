"""What the jobs cluster does for the registry."""

from typing import Any

from django.conf import settings
from django.utils import timezone
from django_q.models import Schedule

from models_registry.files.download_run import run_download
from models_registry.files.downloads import JOBS_CLUSTER, TASK, claim_download


def run_downloads() -> int:
    """Run what is waiting to be downloaded, one after the other, until nothing is.

    Several workers may do this at once: each takes another download.

    Returns:
        How many were run, for django-q's record.
    """
    count = 0
    while (download := claim_download(timezone.now())) is not None:
        run_download(download, settings.INFERENCE.models_dir)
        count += 1
    return count


def schedule_downloads(**_: Any) -> None:
    """Have ``run_downloads`` called every minute, for what was lost with its process."""
    Schedule.objects.update_or_create(
        name="downloads",
        defaults={
            "func": TASK,
            "cluster": JOBS_CLUSTER,
            "schedule_type": Schedule.MINUTES,
            "minutes": 1,
            # Its results would push those of others out of the list.
            "kwargs": "{'q_options': {'save': False}}",
        },
    )
