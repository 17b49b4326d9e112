"""Corrections by prices that were added when requests of their time had come already."""

from dataclasses import astuple
from datetime import datetime, timedelta

from django.db.models import F, Q

from metrics.ledger.corrections import Charge, correct
from metrics.ledger.cost import Rates
from models_registry.models import Price


def correct_late_prices(now: datetime, longest: timedelta) -> None:
    """Correct costs at once, and again when requests that ran with the old price have ended.

    Args:
        now: the time.
        longest: longer than it takes until a request has its record.
    """
    late = Price.objects.exclude(late_at=None).select_related("version__model")
    first = Q(corrected_at=None)
    again = Q(corrected_at__lt=F("late_at") + longest, late_at__lte=now - longest)
    for price in late.filter(first | again):
        _correct(price)
        Price.objects.filter(pk=price.pk).update(corrected_at=now)


def _correct(price: Price) -> None:
    prices = [each.value for each in price.version.prices.all()]
    correct(
        price.version.key,
        [Charge(id_, since, Rates(*rates)) for id_, since, *rates in map(astuple, prices)],
        price.valid_from,
        min((x.valid_from for x in prices if x.valid_from > price.valid_from), default=None),
        reason=f"price from {price.valid_from:%Y-%m-%d %H:%M:%S} UTC",
        made_by=price.added_by,
    )
