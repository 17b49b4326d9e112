"""Reports by e-mail in the admin."""

from datetime import date

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from metrics.models import ReportDelivery, ReportSubscription

pytestmark = pytest.mark.django_db
LIST = "/admin/metrics/reportsubscription/"


@pytest.fixture
def subscription(admin_user) -> ReportSubscription:
    return ReportSubscription.objects.create(user=admin_user, email="a@example.org")


def test_page_says_that_nothing_is_sent_without_a_server(admin_client: Client, settings) -> None:
    settings.EMAIL_HOST = ""
    assert "EMAIL_HOST is not set" in admin_client.get(LIST).content.decode()
    settings.EMAIL_HOST = "mail.example.org"
    assert "EMAIL_HOST" not in admin_client.get(LIST).content.decode()


def test_page_shows_deliveries_that_nobody_can_change(
    admin_client: Client, subscription: ReportSubscription
) -> None:
    ReportDelivery.objects.create(
        subscription=subscription, period_start=date(2026, 11, 23), error="refused by the server"
    )
    page = admin_client.get(f"{LIST}{subscription.pk}/change/").content.decode()
    assert "refused by the server" in page
    assert 'name="deliveries-0-error"' not in page


def test_page_is_closed_to_users_without_its_permission(client: Client) -> None:
    client.force_login(get_user_model().objects.create_user("ann", is_staff=True))
    assert client.get(LIST).status_code == 403
