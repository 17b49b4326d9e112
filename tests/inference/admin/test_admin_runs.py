"""Runs of several models in the admin: the list, and the page of one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from inference.admin.runs import difference
from inference.models import OrchestrationRun, RunStep
from models_registry.access import ADMINISTRATORS
from tests.metrics.records import a_name, a_record
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db
LIST = reverse("admin:inference_orchestrationrun_changelist")
START = datetime(2026, 5, 10, 12, tzinfo=UTC)
SUMMARY: dict[str, Any] = {
    "requested_mode": "debate",
    "answer_from": "v1",
    "stopped_by": "max_rounds",
    "confidence": 0.0,
    "confidence_method": "score of the critic, not checked",
    "agreement": {"score": 0.67, "method": "extracted", "by_round": [None, 0.67]},
    "notices": [{"code": "ungrounded_issue", "step": "c1", "count": 2}],
    "degraded": False,
}


@pytest.fixture
def reader() -> Client:
    """May see runs, and the usage of nobody else."""
    client = client_of("")
    permission = Permission.objects.get(codename="view_orchestrationrun")
    get_user_model().objects.get(username="nobody").user_permissions.add(permission)
    return client


def a_run(name: str = "chatcmpl-1", **fields: Any) -> OrchestrationRun:
    """A critique of ten seconds, whose second call failed and was made again."""
    usual = {"user_id": 1, "mode": "critique", "model": "C1", "state": "finished"}
    ended_at = START + timedelta(seconds=10)
    times = {"started_at": START, "ended_at": ended_at, "summary": SUMMARY}
    run = OrchestrationRun.objects.create(id=name, **usual | times | fields)
    a_step(run, "g", 0, 0, 2, text="Rain falls <up>.")
    a_step(run, "c1", 1, 2, 1, error_code="host_lost", phase="critique")
    a_step(run, "c1", 1, 4, 1, attempt=1, phase="critique", text="It falls down.")
    a_step(run, "v1", 0, 5, 5, text="Rain falls <down>.")
    return run


def a_step(run: OrchestrationRun, key: str, member: int, start: int, seconds: int, **fields: Any):
    began = START + timedelta(seconds=start)
    usual = {
        "phase": "generate",
        "round": 1,
        "participant": ("generator", "critic")[member],
        "version_key": ("small@q4", "large@q4")[member],
        "generation_id": f"{run.pk}-{key}{fields.get('attempt', '')}",
        "said": b"stored",
        "prompt_tokens": 600,
        "completion_tokens": 40,
        "context_tokens": 2048,
        "started_at": began,
        "ended_at": began + timedelta(seconds=seconds),
    }
    RunStep.objects.create(run=run, key=key, member=member, **usual | fields)


def page_of(run: OrchestrationRun) -> str:
    return reverse("admin:inference_orchestrationrun_change", args=[run.pk])


def text_of(client: Client, run: OrchestrationRun) -> str:
    answer = client.get(page_of(run))
    assert answer.status_code == 200
    return answer.content.decode()


def found(client: Client, **query: Any) -> list[str]:
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return [run.pk for run in answer.context["cl"].result_list]


def test_list_has_the_figures_of_each_run(reader: Client, django_assert_max_num_queries: Any):
    for number in range(20):
        a_run(f"chatcmpl-{number}")
    with django_assert_max_num_queries(15):
        text = reader.get(LIST).content.decode()
    for shown in ("critique", "C1", "finished", "2,400 → 160", "10 s", "v1", "max_rounds"):
        assert shown in text


def test_list_is_filtered_and_searched(reader: Client):
    a_run("a", started_at=START + timedelta(days=1))
    a_run("b", mode="debate", preset="D3", state="failed", user_id=7, end_user="ann")
    assert found(reader) == ["a", "b"]
    for query in ({"mode": "debate"}, {"state__exact": "failed"}, {"preset": "D3"}):
        assert found(reader, **query) == ["b"], query
    for words in ("b", "7", "ann"):
        assert found(reader, q=words) == ["b"], words


def test_page_has_the_calls_on_one_axis_by_member(reader: Client):
    a_name("user", 1, "ada", START)
    run = a_run()
    answer = reader.get(page_of(run))
    rows = answer.context["rows"]
    places = [(row["step"].key, row["left"], row["width"]) for row in rows]
    assert places == [
        ("g", "0.00", "20.00"),
        ("v1", "50.00", "50.00"),
        ("c1", "20.00", "10.00"),
        ("c1", "40.00", "10.00"),
    ]
    # The call that failed is red, and not of the colour of its member.
    assert rows[2]["colour"] != rows[2]["member_colour"] == rows[3]["colour"]
    text = answer.content.decode()
    assert text.count("generator · small@q4") == text.count("critic · large@q4") == 1
    for shown in (
        "ada",
        "host_lost",
        "attempt 2",
        "31.2% of the context",
        "Rain falls &lt;up&gt;.",
    ):
        assert shown in text


def test_page_has_the_figures_of_the_summary(reader: Client):
    facts = dict(reader.get(page_of(a_run())).context["groups"]["Answer"])
    assert facts["confidence"] == "0.00"
    assert facts["confidence method"] == "score of the critic, not checked"
    assert facts["agreement by round"] == "-, 0.67"
    assert facts["notices"] == "code ungrounded_issue, step c1, count 2"
    assert facts["degraded"] == "no"


def test_page_marks_the_words_that_a_revision_changed(reader: Client):
    changes = reader.get(page_of(a_run())).context["changes"]
    assert [name for name, _ in changes] == ["g → v1"]
    marked = text_of(reader, a_run("other"))
    assert ">up</del>" in marked
    assert ">down</ins>" in marked
    assert "<up>" not in marked
    assert reader.get(page_of(a_run("third", mode="debate"))).context["changes"] == []


def test_difference_is_escaped_and_bounded():
    assert difference("<b>", "<b>") == "&lt;b&gt;"
    assert "&lt;</ins>" in difference("", "<")
    assert "too long" in difference("a " * 4000, "b " * 4000)


def test_page_says_that_texts_are_deleted(reader: Client):
    run = a_run()
    assert "deleted" not in text_of(reader, run)
    run.steps.update(text="", said=b"")
    assert text_of(reader, run).count("The text has been deleted") == 4


def test_page_of_a_run_that_has_just_begun(reader: Client):
    run = a_run(state="running", ended_at=None, summary={})
    run.steps.filter(key="v1").update(ended_at=None, text="", said=b"")
    text = text_of(reader, run)
    assert ", running" in text
    assert "No text." in text
    run.steps.all().delete()
    assert "No call has begun." in text_of(reader, run)


def test_cost_is_from_the_records_that_the_user_may_see(reader: Client):
    run = a_run()
    record = a_record(run_id=f"{run.pk}-g", cost_nano=1_200_000, started_at=START)
    link = reverse("admin:metrics_requestrecord_change", args=[record.pk])
    assert link not in text_of(reader, run)
    user = get_user_model().objects.get(username="nobody")
    user.user_permissions.add(
        Permission.objects.get(codename="view", content_type__app_label="metrics")
    )
    text = text_of(reader, run)
    assert link in text
    assert "$0.0012, by the records of 1 of 4 calls" in text


def test_texts_of_users_are_for_those_alone_who_have_the_permission(reader: Client):
    run = a_run()
    other = client_of(ADMINISTRATORS)
    assert [other.get(url).status_code for url in (LIST, page_of(run))] == [403, 403]
    assert reader.post(page_of(run), {"mode": "debate"}).status_code == 403
    assert reader.get(reverse("admin:inference_orchestrationrun_add")).status_code == 403
