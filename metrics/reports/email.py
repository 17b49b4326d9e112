"""Usage reports by e-mail: each at most once per week or month."""

import logging
from datetime import date, datetime, timedelta
from smtplib import SMTPException
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.utils import timezone
from django_q.models import Schedule

from metrics.models import ReportSubscription, UsageDay
from metrics.reports.formats import summary_of, usage_html, usage_text
from metrics.reports.query import BadQueryError, read_query
from metrics.reports.usage import usage_report
from metrics.visibility import visible_to

logger = logging.getLogger(__name__)

_SECTIONS: Final[dict[str, dict[str, list[str]]]] = {
    "By day": {"period": ["day"]},
    "By model": {"group": ["model"]},
    "By user": {"group": ["user"]},
    "By team": {"group": ["team"]},
}


def send_due(now: datetime | None = None) -> int:
    """Send the reports on the last whole week or month that were not sent; return their number.

    Several workers may do this at once. Nothing is sent without EMAIL_HOST.
    """
    now = now or timezone.now()
    # Requests that came before midnight may still run.
    today = (now - timedelta(hours=1)).astimezone(ZoneInfo(settings.USAGE_TIME_ZONE)).date()
    subscriptions = ReportSubscription.objects.filter(is_active=True, user__is_active=True)
    sent = 0
    for subscription in subscriptions.select_related("user") if settings.EMAIL_HOST else ():
        first, last = last_whole(subscription.period, today)
        was_sent = subscription.deliveries.filter(period_start=first).exists()
        # Before the first request there is nothing to tell.
        if was_sent or not UsageDay.objects.filter(day__lte=last).exists():
            continue
        try:
            sent += _send(subscription, first, last, now)
        except BadQueryError as error:
            logger.error("%s cannot be made: %s", subscription, error)
    return sent


def last_whole(period: str, today: date) -> tuple[date, date]:
    """The first and last day of the week or month before that of ``today``."""
    if period == ReportSubscription.Period.WEEK:
        last = today - timedelta(days=today.weekday() + 1)
        return last - timedelta(days=6), last
    last = today.replace(day=1) - timedelta(days=1)
    return last.replace(day=1), last


def schedule_reports(**_: Any) -> None:
    """Call ``send_due`` every hour in the cluster for jobs."""
    Schedule.objects.update_or_create(
        name="reports",
        defaults={
            "func": "metrics.reports.email.send_due",
            "cluster": settings.Q_CLUSTER["name"],
            "schedule_type": Schedule.HOURLY,
            "kwargs": "{'q_options': {'save': False}}",
        },
    )


def _send(subscription: ReportSubscription, first: date, last: date, now: datetime) -> bool:
    visible = visible_to(subscription.user)
    span = {"from": [str(first)], "to": [str(last)], "compare": ["previous"]}
    sections = [
        (name, usage_report(read_query(span | params, now, visible)))
        for name, params in _SECTIONS.items()
    ]
    report = sections[0][1]
    if report.as_of < report.query.until:
        logger.info("%s waits until the totals of its time are complete", subscription)
        return False
    title = f"Usage from {first} to {last}"
    texts = [f"{name}\n\n{usage_text(report)}" for name, report in sections]
    text = "\n\n\n".join([summary_of(report.query, report.rows, report.as_of), *texts])
    message = EmailMultiAlternatives(title, text, to=[subscription.email])
    message.attach_alternative(usage_html(title, sections), "text/html")
    delivery = None
    try:
        with get_connection() as message.connection:
            # From here on the report counts as sent, whatever happens: twice would be worse.
            delivery, is_new = subscription.deliveries.get_or_create(period_start=first)
            if not is_new:
                return False
            message.send()
    except (OSError, SMTPException) as error:
        logger.warning("%s was not sent: %s", subscription, error)
        if delivery is None:
            return False
        delivery.error = str(error)
    else:
        delivery.sent_at = timezone.now()
    delivery.save(update_fields=["sent_at", "error"])
    return delivery.sent_at is not None
