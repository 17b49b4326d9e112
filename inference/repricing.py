"""Correct the costs of requests when a price for the past was added."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django_q.models import Schedule

from metrics.ledger.corrections import Charge, TooOldError, correct
from metrics.ledger.cost import Rates
from models_registry.catalogue.lookup import find_version
from models_registry.catalogue.repricing import Repricing
from models_registry.errors import RegistryError
from models_registry.files.downloads import JOBS_CLUSTER


def reprice(repricing: Repricing, is_trial: bool) -> tuple[int, int]:
    """Correct now what is recorded, and later the requests that still run with the old price."""
    if not is_trial:
        limits = settings.INFERENCE
        seconds = limits.queue_timeout_seconds + limits.request_timeout_seconds
        until = repricing.until and repricing.until.timestamp()
        Schedule.objects.create(
            func="inference.repricing.reprice_again",
            cluster=JOBS_CLUSTER,
            args=repr(
                (repricing.version_key, repricing.since.timestamp(), until, repricing.made_by)
            ),
            schedule_type=Schedule.ONCE,
            next_run=timezone.now() + timedelta(seconds=seconds + 600),
        )
    return _correct(repricing, is_trial)


def reprice_again(version_key: str, since: float, until: float | None, made_by: str) -> None:
    version = find_version(version_key)
    if version is not None:
        prices = tuple(row.value for row in version.prices.all())
        first = datetime.fromtimestamp(since, UTC)
        after = datetime.fromtimestamp(until, UTC) if until else None
        _correct(Repricing(version_key, prices, first, after, made_by), is_trial=False)


def _correct(repricing: Repricing, is_trial: bool) -> tuple[int, int]:
    charges = [
        Charge(
            each.id,
            each.valid_from,
            Rates(each.prompt_nano, each.cached_nano, each.completion_nano, each.device_hour_nano),
        )
        for each in repricing.prices
    ]
    try:
        return correct(
            repricing.version_key,
            charges,
            repricing.since,
            repricing.until,
            reason=f"price from {repricing.since:%Y-%m-%d %H:%M:%S} UTC",
            made_by=repricing.made_by,
            is_trial=is_trial,
        )
    except TooOldError as error:
        raise RegistryError(str(error)) from error
