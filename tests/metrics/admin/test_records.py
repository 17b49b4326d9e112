"""Requests in the admin: who sees which, filters, search, and the page of one."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.models import Membership, Team
from metrics.models import RequestRecord, RequestStep
from models_registry.access import VIEWERS
from tests.metrics.records import a_name, a_record
from tests.metrics.reports.totals import add_day
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db
TODAY = f"{timezone.now():%Y-%m-%d}"
LIST = reverse("admin:metrics_requestrecord_changelist")


def runs(client: Client, **query: Any) -> set[str]:
    """The run ids that the list shows."""
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return {record.run_id for record in answer.context["cl"].result_list}


def page_of(record: RequestRecord) -> str:
    return reverse("admin:metrics_requestrecord_change", args=[record.pk])


@pytest.fixture
def viewer() -> Client:
    return client_of(VIEWERS)


def test_list_rounds_for_people_and_names_who_asked(viewer: Client) -> None:
    a_name("user", 1, "ann")
    a_name("key", 2, "laptop")
    a_name("team", 3, "Search")
    a_record(
        key_id=2,
        team_id=3,
        total_us=17_775_149,
        ttft_us=340_400,
        decode_us=2_000_000,
        prompt_tokens=1234,
        completion_tokens=56,
        cost_nano=1_234_567,
        outcome="failed",
        error_code="queue_timeout",
    )
    text = viewer.get(LIST).content.decode()
    for shown in ("ann", "laptop · Search", "18 s", "340 ms", "1,234 → 56", "28/s", "$0.0012"):
        assert shown in text
    assert "queue_timeout" in text


def test_list_has_names_as_they_were_in_one_query(viewer: Client) -> None:
    long_ago, lately = timezone.now() - timedelta(hours=3), timezone.now() - timedelta(hours=1)
    a_name("user", 1, "ann-before", long_ago)
    a_name("user", 1, "ann-after", lately)
    for hours in (0.5, 2):
        a_record(started_at=timezone.now() - timedelta(hours=hours))
    a_record(user_id=77)
    shown = [record.user_name for record in viewer.get(LIST).context["cl"].result_list]
    assert shown == ["#77", "ann-after", "ann-before"]


def test_list_never_counts_and_reads_one_page(viewer: Client, django_assert_max_num_queries: Any):
    for _ in range(60):
        a_record()
    with django_assert_max_num_queries(30) as queries:
        assert len(runs(viewer)) == 50
    assert len(runs(viewer, p=2)) == 10
    asked = [query["sql"] for query in queries.captured_queries]
    assert not [sql for sql in asked if "COUNT(" in sql.upper()]
    assert not [sql for sql in asked if "DISTINCT" in sql and "requestrecord" in sql]


def test_staff_see_their_own_and_owners_their_teams() -> None:
    client = client_of("")
    user = get_user_model().objects.get(username="nobody")
    owned, joined = Team.objects.create(slug="a"), Team.objects.create(slug="b")
    Membership.objects.create(team=owned, user=user, role="owner")
    Membership.objects.create(team=joined, user=user)
    other = user.pk + 1
    own = a_record(user_id=user.pk)
    teams = a_record(user_id=other, team_id=owned.pk)
    strangers = [a_record(user_id=other, team_id=joined.pk), a_record(user_id=other)]
    assert runs(client) == {own.run_id, teams.run_id}
    assert client.get(page_of(teams)).status_code == 200
    for record in strangers:
        assert runs(client, q=record.run_id) == set()
        assert client.get(page_of(record)).status_code == 302


def test_filters_offer_only_what_the_user_may_see() -> None:
    client = client_of("")
    user = get_user_model().objects.get(username="nobody")
    add_day(TODAY, user_id=user.pk, version_key="mine@v1")
    add_day(TODAY, user_id=user.pk + 1, version_key="theirs@v1", tier="l1")
    specs = {
        spec.parameter_name: spec
        for spec in client.get(LIST).context["cl"].filter_specs
        if hasattr(spec, "parameter_name")
    }
    assert specs["version_key"].lookup_choices == [("mine@v1", "mine@v1")]
    assert specs["tier"].lookup_choices == []


def test_filters_narrow_the_list(viewer: Client) -> None:
    add_day(TODAY)
    add_day(TODAY, version_key="m@v2", user_id=2, key_id=4, team_id=5, mode="council", tier="l1")
    first = a_record().run_id
    second = a_record(
        version_key="m@v2", user_id=2, key_id=4, team_id=5, mode="council", tier="l1",
        outcome="cancelled",
    ).run_id  # fmt: skip
    assert runs(viewer, version_key="m@v2") == {second}
    assert runs(viewer, user_id=2) == runs(viewer, key_id=4) == runs(viewer, team_id=5) == {second}
    assert runs(viewer, mode="council") == runs(viewer, tier="l1") == {second}
    assert runs(viewer, outcome__exact="cancelled") == {second}
    assert runs(viewer, kind="chat") == {first, second}


def test_filter_by_error_code_needs_no_totals(viewer: Client) -> None:
    late = a_record(outcome="failed", error_code="queue_timeout").run_id
    a_record(outcome="failed", error_code="host_lost")
    assert runs(viewer, error_code__icontains="queue_timeout") == {late}
    assert 'name="error_code__icontains"' in viewer.get(LIST).content.decode()


def test_list_shows_a_week_unless_told_otherwise(viewer: Client) -> None:
    new = a_record().run_id
    old = a_record(started_at=timezone.now() - timedelta(days=8))
    assert runs(viewer) == {new}
    assert runs(viewer, since="") == runs(viewer, since="2020-01-01") == {new, old.run_id}
    assert runs(viewer, since="", before=f"{old.started_at:%Y-%m-%d %H:%M}") == set()
    after = old.started_at + timedelta(minutes=1)
    assert runs(viewer, since="", before=after.isoformat()) == {old.run_id}
    assert runs(viewer, before=after.isoformat()) == {old.run_id}


def test_search_finds_a_run_of_any_time_and_other_ids_within_the_filter(viewer: Client) -> None:
    old = timezone.now() - timedelta(days=8)
    run = a_record(started_at=old, request_id="req-1", end_user="eve").run_id
    new = a_record(end_user="eve").run_id
    assert runs(viewer, q=f" {run} ") == {run}
    assert runs(viewer, q="eve") == {new}
    assert runs(viewer, q="req-1") == set()
    assert runs(viewer, q="req-1", since="") == {run}


@pytest.mark.parametrize(
    "query", [{"user_id": "x"}, {"since": "yesterday"}, {"version_key": "none@v1"}]
)
def test_filter_refuses_an_unknown_value(viewer: Client, query: dict[str, str]) -> None:
    answer = viewer.get(LIST, query)
    assert (answer.status_code, answer.url) == (302, f"{LIST}?e=1")
    assert "No filter applies, since one cannot be read." in viewer.get(answer.url).content.decode()


def test_page_has_all_facts_and_bars_of_phases_and_steps(viewer: Client) -> None:
    record = a_record(
        queue_us=100_000, prefill_us=300_000, decode_us=600_000, total_us=1_000_000, user_id=9
    )
    for number, outcome in enumerate(("failed", "finished")):
        RequestStep.objects.create(
            run_id=record.run_id,
            started_at=record.started_at,
            number=number,
            kind="attempt",
            version_key="m@v1",
            outcome=outcome,
            decode_us=250_000,
        )
    answer = viewer.get(page_of(record))
    text = answer.content.decode()
    assert record.run_id in text
    assert "#9" in text
    for width in ("10.00", "30.00", "60.00"):
        assert f"width: {width}%" in text
    assert text.count("width: 25.00%") == 2
    assert "attempt 1" in text


def test_page_of_a_request_has_no_history_since_nobody_changes_it(viewer: Client) -> None:
    assert "/history/" not in viewer.get(page_of(a_record())).content.decode()


def test_page_of_a_request_without_times_has_no_bars(viewer: Client) -> None:
    text = viewer.get(page_of(a_record(outcome="lost", total_us=0))).content.decode()
    assert "lost" in text
    assert "width: " not in text.partition("Timeline")[2].partition("</main>")[0]


def test_requests_cannot_be_changed_even_by_superusers() -> None:
    get_user_model().objects.create_superuser("root", password="long enough")
    client = Client()
    client.login(username="root", password="long enough")
    record = a_record()
    client.post(page_of(record), {"outcome": "lost"})
    delete = reverse("admin:metrics_requestrecord_delete", args=[record.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    assert RequestRecord.objects.get().outcome == "finished"
