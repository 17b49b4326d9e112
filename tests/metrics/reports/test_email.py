"""Reports by e-mail, at most once per period."""

from datetime import date
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.mail.backends.locmem import EmailBackend
from django_q.models import Schedule

from metrics.models import ReportDelivery, ReportSubscription, RollMark
from metrics.reports import usage as usage_module
from metrics.reports.email import last_whole, send_due
from tests.metrics.reports.totals import add, moment

pytestmark = pytest.mark.django_db
MONDAY = moment("2025-12-01T01:30")


class Disconnecting(EmailBackend):
    """A server that goes away while it is told a message."""

    def send_messages(self, messages: Any) -> int:
        raise SMTPServerDisconnected("Connection unexpectedly closed")


class Racing(EmailBackend):
    """Another worker is faster while this one connects."""

    def open(self) -> bool:
        ReportDelivery.objects.create(
            subscription=ReportSubscription.objects.get(), period_start=date(2025, 11, 24)
        )
        return True


@pytest.fixture(autouse=True)
def server(settings) -> None:
    settings.EMAIL_HOST = "mail.invalid"


@pytest.fixture
def subscription() -> ReportSubscription:
    user = get_user_model().objects.create_user("ann")
    add("2025-11-24T10:00", 3, user_id=user.pk, cost_nano=1_500_000_000)
    add("2025-11-30T23:45", 4, user_id=user.pk, version_key="n@v1")
    add("2025-11-23T10:00", 2, user_id=user.pk)
    add("2025-11-30T10:00", 100, user_id=user.pk + 1)
    return ReportSubscription.objects.create(user=user, email="ann@example.org")


def backend(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@pytest.mark.parametrize(
    ("period", "today", "first", "last"),
    [
        ("week", "2026-11-30", "2026-11-23", "2026-11-29"),
        ("week", "2026-12-06", "2026-11-23", "2026-11-29"),
        ("month", "2026-12-01", "2026-11-01", "2026-11-30"),
        ("month", "2026-03-31", "2026-02-01", "2026-02-28"),
        ("month", "2027-01-01", "2026-12-01", "2026-12-31"),
    ],
)
def test_email_is_about_the_last_whole_period(
    period: str, today: str, first: str, last: str
) -> None:
    found = last_whole(period, date.fromisoformat(today))
    assert [str(day) for day in found] == [first, last]


def test_email_is_sent_once_per_period(subscription: ReportSubscription, mailoutbox: Any) -> None:
    assert [send_due(MONDAY), send_due(MONDAY), send_due(moment("2025-12-08T00:59"))] == [1, 0, 0]
    (message,) = mailoutbox
    assert (message.to, message.subject) == (
        ["ann@example.org"],
        "Usage from 2025-11-24 to 2025-11-30",
    )
    assert ReportDelivery.objects.get().sent_at is not None
    assert send_due(moment("2025-12-08T01:00")) == 1


def test_email_shows_what_its_user_may_see(
    subscription: ReportSubscription, mailoutbox: Any
) -> None:
    send_due(MONDAY)
    (message,) = mailoutbox
    (page, kind) = message.alternatives[0]
    assert kind == "text/html"
    total = next(line for line in message.body.splitlines() if "Total" in line)
    before = next(line for line in message.body.splitlines() if "Previous" in line)
    assert (total.split()[1], before.split()[1]) == ("7", "2")
    assert "$1.50" in total
    assert message.body.startswith("2025-11-24 00:00 to 2025-12-01 00:00, UTC.")
    assert "By model" in page
    assert "n@v1" not in page
    assert "http" not in page


def test_email_is_for_active_subscriptions_of_active_users(
    subscription: ReportSubscription, mailoutbox: Any
) -> None:
    subscription.user.is_active = False
    subscription.user.save()
    assert send_due(MONDAY) == 0
    subscription.user.is_active = True
    subscription.user.save()
    subscription.is_active = False
    subscription.save()
    assert send_due(MONDAY) == 0
    assert not ReportDelivery.objects.exists()


def test_email_is_not_sent_without_a_server(
    subscription: ReportSubscription, mailoutbox: Any, settings
) -> None:
    settings.EMAIL_HOST = ""
    assert (send_due(MONDAY), mailoutbox) == (0, [])


def test_email_is_not_sent_about_a_time_before_the_first_request(
    subscription: ReportSubscription, mailoutbox: Any
) -> None:
    assert (send_due(moment("2025-11-17T01:30")), mailoutbox) == (0, [])
    assert send_due(moment("2025-11-24T01:30")) == 1


def test_email_waits_for_complete_totals(subscription: ReportSubscription, mailoutbox: Any) -> None:
    mark = RollMark.objects.create(slot=moment("2025-11-30T23:45"))
    assert send_due(MONDAY) == 0
    mark.slot = moment("2025-12-01")
    mark.save()
    assert send_due(MONDAY) == 1


def test_email_is_tried_again_when_the_server_cannot_be_reached(
    subscription: ReportSubscription, settings, unused_tcp_port: int
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", unused_tcp_port
    assert send_due(MONDAY) == 0
    assert not ReportDelivery.objects.exists()
    settings.EMAIL_BACKEND = backend(EmailBackend)
    assert send_due(MONDAY) == 1


def test_email_that_may_have_been_sent_is_not_sent_again(
    subscription: ReportSubscription, mailoutbox: Any, settings
) -> None:
    settings.EMAIL_BACKEND = backend(Disconnecting)
    assert send_due(MONDAY) == 0
    delivery = ReportDelivery.objects.get()
    assert (delivery.sent_at, delivery.error) == (None, "Connection unexpectedly closed")
    settings.EMAIL_BACKEND = backend(EmailBackend)
    assert (send_due(MONDAY), mailoutbox) == (0, [])


def test_email_with_too_many_rows_does_not_stop_the_others(
    subscription: ReportSubscription, mailoutbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = get_user_model().objects.create_superuser("root")
    ReportSubscription.objects.create(user=root, email="root@example.org")
    monkeypatch.setattr(usage_module, "MOST_ROWS", 2)
    add("2025-11-26T10:00", 1, user_id=root.pk)
    assert send_due(MONDAY) == 1
    assert [message.to for message in mailoutbox] == [["ann@example.org"]]


def test_email_is_left_to_the_worker_that_was_faster(
    subscription: ReportSubscription, mailoutbox: Any, settings
) -> None:
    settings.EMAIL_BACKEND = backend(Racing)
    assert (send_due(MONDAY), mailoutbox) == (0, [])
    assert ReportDelivery.objects.count() == 1


def test_email_is_scheduled_every_hour_in_the_cluster_for_jobs() -> None:
    found = Schedule.objects.get(name="reports")
    assert (found.func, found.cluster) == ("metrics.reports.email.send_due", "jobs")
    assert found.schedule_type == Schedule.HOURLY
