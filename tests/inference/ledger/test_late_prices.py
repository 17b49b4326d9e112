"""The prices of a version's page, and the costs that a price for the past corrects."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Sum
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.ledger.late_prices import correct_late_prices
from metrics.models import Correction, RequestRecord, RollMark
from models_registry.catalogue.lookup import spec_of
from models_registry.models import Model, ModelVersion
from tests.models_registry.admin_pages import opened
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db
LONGEST = timedelta(minutes=20)
NOW = timezone.now().replace(microsecond=0)
ADD = reverse("admin:models_registry_modelversion_add")


@pytest.fixture(autouse=True)
def last_month() -> None:
    """Records of the last hours have a partition even when a month has just begun."""
    first = NOW.replace(day=1, hour=0, minute=0, second=0)
    before = (first - timedelta(days=1)).replace(day=1)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS metrics_requestrecord_{before:%Y_%m} PARTITION OF "
            f"metrics_requestrecord FOR VALUES FROM ('{before}') TO ('{first}')"
        )


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    return client


@pytest.fixture
def version() -> ModelVersion:
    return a_version()


def page_of(version: ModelVersion) -> str:
    return reverse("admin:models_registry_modelversion_change", args=[version.pk])


def form_of(valid_from: datetime | None, number: int = 0, **fields: str) -> dict[str, str]:
    """A price as the page's form sends it; the row ``number`` is new."""
    day, time = (f"{valid_from:%Y-%m-%d}", f"{valid_from:%H:%M:%S}") if valid_from else ("", "")
    values = {"prompt_usd_per_million_tokens": "0", "completion_usd_per_million_tokens": "0"}
    values |= {"usd_per_device_hour": "0", "cached_usd_per_million_tokens": ""} | fields
    row = {f"prices-{number}-{name}": value for name, value in values.items()}
    row |= {f"prices-{number}-valid_from_0": day, f"prices-{number}-valid_from_1": time}
    return row | {"prices-TOTAL_FORMS": str(number + 1)}


def post(admin: Client, url: str, fields: dict[str, str]) -> str:
    """Send the page as it stands but for ``fields``; returns the page that follows."""
    return admin.post(url, opened(admin, url) | fields, follow=True).content.decode()


def add(admin: Client, version: ModelVersion, valid_from: datetime | None, **fields: str) -> str:
    """Add a price on the page."""
    row = form_of(valid_from, version.prices.count(), **fields)
    return post(admin, page_of(version), row)


def a_record(version: ModelVersion, started_at: datetime, cost: int = 0) -> None:
    """A request of a million prompt and a million completion tokens."""
    RequestRecord.objects.create(
        run_id=f"run-{started_at.timestamp()}",
        started_at=started_at,
        settled_at=started_at,
        kind="chat",
        user_id=7,
        version_key=version.key,
        outcome="finished",
        prompt_tokens=1_000_000,
        completion_tokens=1_000_000,
        cost_nano=cost,
    )


def correct(later: timedelta = timedelta(0)) -> None:
    """Do as the controller does."""
    correct_late_prices(timezone.now() + later, LONGEST)


def total() -> int:
    return Correction.objects.aggregate(total=Sum("delta_nano"))["total"] or 0


def test_price_without_a_time_is_in_force_soon(admin: Client, version: ModelVersion) -> None:
    add(admin, version, None, completion_usd_per_million_tokens="0.25")
    price = version.prices.get()
    assert timedelta(seconds=5) < price.valid_from - timezone.now() < timedelta(minutes=2)
    assert price.value.completion_nano == 250_000_000
    assert price.late_at is None


def test_price_from_now_on_is_taken_without_a_question(
    admin: Client, version: ModelVersion
) -> None:
    since = timezone.now().replace(second=0, microsecond=0)
    a_record(version, since, cost=10**9)
    add(admin, version, since, prompt_usd_per_million_tokens="3")
    assert version.prices.get().valid_from == since
    correct()
    assert total() == 2 * 10**9


@pytest.mark.parametrize("usd", ["1000.01", "0.0005"])
def test_price_that_looks_like_one_of_a_token_is_asked_about(
    admin: Client, version: ModelVersion, usd: str
) -> None:
    page = add(admin, version, None, cached_usd_per_million_tokens=usd)
    assert f"{usd} US dollars for a million tokens, not for one?" in page
    assert not version.prices.exists()
    add(admin, version, None, cached_usd_per_million_tokens=usd, is_sure="on")
    assert str(version.prices.get().cached_usd_per_million_tokens.normalize()) == usd


def test_price_of_a_token_has_too_many_decimals(admin: Client, version: ModelVersion) -> None:
    page = add(admin, version, None, prompt_usd_per_million_tokens="0.0000025", is_sure="on")
    assert "no more than 6 decimal places" in page
    assert not version.prices.exists()


@pytest.mark.parametrize(
    "edit",
    [
        {"prices-0-prompt_usd_per_million_tokens": "2"},
        {"prices-0-valid_from_0": "2020-01-01"},
        {"prices-0-DELETE": "on"},
    ],
)
def test_price_that_was_in_force_stays(
    admin: Client, version: ModelVersion, edit: dict[str, str]
) -> None:
    price = version.prices.create(valid_from=NOW, prompt_usd_per_million_tokens=1)
    stored = version.prices.values().get()
    assert "is or was in force" in post(admin, page_of(version), edit)
    assert version.prices.values().get() == stored
    other = post(admin, page_of(version), {"threads": "3"})
    assert "is or was in force" not in other
    version.refresh_from_db()
    assert (version.threads, version.prices.get()) == (3, price)


def test_price_to_come_can_be_changed_and_deleted(admin: Client, version: ModelVersion) -> None:
    version.prices.create(valid_from=NOW + timedelta(days=1), prompt_usd_per_million_tokens=1)
    post(admin, page_of(version), {"prices-0-prompt_usd_per_million_tokens": "2"})
    assert version.prices.get().value.prompt_nano == 2 * 10**9
    post(admin, page_of(version), {"prices-0-DELETE": "on"})
    assert not version.prices.exists()


def test_price_for_the_past_is_asked_about_and_corrects_costs(
    admin: Client, version: ModelVersion
) -> None:
    since, until = NOW - timedelta(minutes=6), NOW + timedelta(minutes=2)
    version.prices.create(valid_from=until, prompt_usd_per_million_tokens=9)
    for seconds in (1, 60, 359, 361):
        a_record(version, NOW - timedelta(seconds=seconds), cost=10**9)
    fields = {"prompt_usd_per_million_tokens": "1.5", "usd_per_device_hour": "7"}
    assert "This price is for the past" in add(admin, version, since, **fields)
    assert version.prices.count() == 1
    add(admin, version, since, **fields, is_sure="on")
    correct()
    assert total() == 3 * 500_000_000
    price = version.prices.get(valid_from=since)
    made = Correction.objects.values_list("price_id", "made_by", "reason")
    assert set(made) == {(price.pk, "keeper", f"price from {since:%Y-%m-%d %H:%M:%S} UTC")}
    assert RollMark.objects.exists()
    assert sum(RequestRecord.objects.values_list("cost_nano", flat=True)) == 4 * 10**9


def test_requests_that_ran_while_a_price_was_corrected_are_corrected_later(
    admin: Client, version: ModelVersion
) -> None:
    since = NOW - timedelta(minutes=2)
    add(admin, version, since, prompt_usd_per_million_tokens="1", is_sure="on")
    correct()
    assert not Correction.objects.exists()
    a_record(version, NOW - timedelta(minutes=1))
    correct(LONGEST - timedelta(minutes=1))
    assert not Correction.objects.exists()
    for _ in range(2):
        correct(LONGEST)
        assert total() == 10**9
    a_record(version, NOW - timedelta(seconds=59))
    correct(2 * LONGEST)
    assert total() == 10**9


def test_price_to_come_is_not_moved_into_the_past(admin: Client, version: ModelVersion) -> None:
    version.prices.create(valid_from=NOW + timedelta(days=1), prompt_usd_per_million_tokens=1)
    edit = {"prices-0-valid_from_0": f"{NOW:%Y-%m-%d}", "prices-0-is_sure": "on"}
    assert "Add another price" in post(admin, page_of(version), edit)
    assert version.prices.get().valid_from > NOW


def test_price_with_the_time_of_another_corrects_it(admin: Client, version: ModelVersion) -> None:
    since = NOW - timedelta(minutes=2)
    version.prices.create(valid_from=since, prompt_usd_per_million_tokens=2)
    a_record(version, since, cost=2 * 10**9)
    fields = {"prompt_usd_per_million_tokens": "1.5"}
    add(admin, version, since, **fields, is_sure="on")
    correct()
    assert total() == -500_000_000
    spec = spec_of(version, Path("/models"))
    assert [price.prompt_nano for price in spec.prices] == [2 * 10**9, 15 * 10**8]


def test_price_for_a_time_whose_records_are_gone_is_refused(
    admin: Client, version: ModelVersion
) -> None:
    page = add(admin, version, datetime(2019, 1, 1, tzinfo=UTC), is_sure="on")
    assert "Records are kept for 90 days" in page
    assert not version.prices.exists()


def test_price_can_come_with_a_new_version(admin: Client) -> None:
    model = Model.objects.create(slug="m", name="M")
    sent = {"model": str(model.pk), "label": "a", "file_name": "a"}
    post(admin, ADD, sent | form_of(None, prompt_usd_per_million_tokens="3"))
    assert model.versions.get().prices.get().value.prompt_nano == 3 * 10**9


def test_price_with_a_wrong_version_says_what_is_wrong(admin: Client) -> None:
    assert "This field is required" in post(admin, ADD, form_of(NOW))
    assert not ModelVersion.objects.exists()
