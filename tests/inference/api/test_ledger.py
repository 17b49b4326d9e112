"""Every request that the API accepts has one exact record; others are counted by reason."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from inference.database import in_database
from inference.messages import Delta, Failed, Started, Usage, decode_frame
from inference.models import ApiKey, Team
from inference.queue import keys
from inference.request_id import current_request_id
from inference.runs.runtime import Runtime
from metrics.ledger import store
from metrics.ledger.check import check
from metrics.models import DimensionName, RequestRecord, RequestStep
from models_registry.models import ModelVersion, Price
from tests.inference.api.test_delivery import http_request
from tests.stack import Api, FakeModel, ScriptedHost, body_of, eventually, recorded, sse_events

PATH = "/v1/chat/completions"


def chat(model: FakeModel, **fields: Any) -> dict[str, Any]:
    """A short conversation."""
    return {"model": model.slug, "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.fixture(autouse=True)
def _new_counts(database: None, redis_client: "redis.Redis") -> None:
    """Counts of earlier tests are of other databases."""
    redis_client.delete(store.OPEN, store.UNWRITTEN, store.LEFT, store.REFUSED)
    for key in redis_client.scan_iter("brigade:ledger:*"):
        redis_client.delete(key)


def add_price(version: ModelVersion) -> None:
    """15 USD per million tokens of an answer, 1 USD per million of a prompt."""
    Price.objects.create(
        version=version,
        valid_from=timezone.now() - timedelta(days=1),
        prompt_usd_per_million_tokens=1,
        completion_usd_per_million_tokens=15,
    )


async def test_stream_that_is_left_costs_the_tokens_that_were_streamed(
    api: Api, model: FakeModel, redis_client: "redis.Redis"
):
    await in_database(add_price, model.version)
    model.take_time(0.005)
    body = chat(model, stream=True, max_tokens=400)
    async with http_request(api, body) as communicator:
        assert (await communicator.receive_output(timeout=10))["status"] == 200
        seen = b""
        while seen.count(b"data: ") < 37:
            seen += (await communicator.receive_output(timeout=10))["body"]
        await communicator.send_input({"type": "http.disconnect"})
    (record,) = await recorded()
    entries: Any = redis_client.xrange(keys.stream(f"{record.run_id}-shared.0"))
    frames = [decode_frame(fields[b"f"]) for _, fields in entries]
    streamed = sum(len(frame.token_ids) for frame in frames if isinstance(frame, Delta))
    assert record.outcome == "cancelled"
    assert 35 <= record.completion_tokens == streamed < 400
    assert record.computed_completion_tokens == streamed
    assert record.cost_nano == record.prompt_tokens * 1_000 + streamed * 15_000


async def test_client_gone_before_the_first_token_pays_for_the_prompt(api: Api, model: FakeModel):
    await in_database(add_price, model.version)
    model.take_time(0.2)
    async with http_request(api, chat(model)) as communicator:
        await eventually(lambda: model.engine.running_sequences)
        await communicator.send_input({"type": "http.disconnect"})
    (record,) = await recorded()
    assert record.outcome == "cancelled"
    assert record.prompt_tokens > 0
    assert record.cost_nano >= record.prompt_tokens * 1_000


async def test_record_says_who_asked_for_which_model_and_when(api: Api, model: FakeModel):
    model.say("four")
    before = timezone.now() - timedelta(seconds=1)
    answer = (await api.post(PATH, chat(model, user="pupil", priority=3))).json()
    (record,) = await recorded()
    assert record.run_id == answer["id"]
    assert (record.user_id, record.end_user, record.priority) == (api.user.pk, "pupil", 3)
    assert (record.requested_model, record.version_key) == (model.slug, model.key)
    assert record.key_id is not None
    assert before < record.started_at < timezone.now() + timedelta(seconds=1)
    assert 0 < record.ttft_us <= record.total_us
    assert record.device_us > 0
    assert not record.streamed


async def test_record_belongs_to_the_team_of_the_key_and_keeps_all_names(
    api: Api, model: FakeModel
):
    def join() -> Team:
        team = Team.objects.create(slug="physics", name="Physics")
        ApiKey.objects.filter(user=api.user).update(team=team)
        return team

    team = await in_database(join)
    model.say("four")
    await api.post(PATH, chat(model))
    (record,) = await recorded()
    assert record.team_id == team.pk
    names = await in_database(lambda: set(DimensionName.objects.values_list("kind", "name")))
    assert {("user", api.user.username), ("key", "test"), ("team", "Physics")} <= names


async def test_reading_a_stream_again_makes_no_record(api: Api, model: FakeModel):
    model.say("hello")
    body = await body_of(await api.post(PATH, chat(model, stream=True)))
    run_id = sse_events(body)[0]["id"]
    for _ in range(3):
        assert b"[DONE]" in await body_of(await api.get(f"/v1/streams/{run_id}"))
    await api.post(PATH, chat(model))
    first, second = await recorded(2)
    assert first.run_id == run_id != second.run_id
    assert first.streamed


async def test_requests_of_one_request_id_have_a_record_each(api: Api, model: FakeModel):
    model.say("x")
    current_request_id.set("mine")
    for _ in range(3):
        await api.post(PATH, chat(model))
    records = await recorded(3)
    assert len({record.run_id for record in records}) == 3
    assert {record.request_id for record in records} == {"mine"}


async def test_choices_are_steps_whose_sums_are_the_records(api: Api, model: FakeModel):
    body = chat(model, n=3, max_tokens=5, ignore_eos=True)
    usage = (await api.post(PATH, body)).json()["usage"]
    (record,) = await recorded()
    steps = await in_database(lambda: list(RequestStep.objects.filter(run_id=record.run_id)))
    assert [step.number for step in steps] == [0, 1, 2]
    assert sum(step.completion_tokens for step in steps) == usage["completion_tokens"] == 15
    assert record.completion_tokens == 15
    assert record.prompt_tokens == usage["prompt_tokens"] == steps[0].prompt_tokens


async def test_refused_requests_are_counted_by_code_and_have_no_record(
    api: Api,
    model: FakeModel,
    service: Runtime,
    configure: Callable[..., None],
    redis_client: "redis.Redis",
):
    for change in ({"temperature": 99}, {"model": "nobody"}, {"model": "nobody"}):
        assert (await api.post(PATH, chat(model) | change)).status_code in (400, 404)
    assert (await api.get("/v1/streams/chatcmpl-unknown")).status_code == 404
    configure(max_concurrent_requests=0)
    assert (await api.post(PATH, chat(model))).status_code == 503
    await service.ledger.close()
    counts: Any = redis_client.hgetall(store.REFUSED)
    by_code: dict[str, int] = {}
    for name, count in counts.items():
        code = name.decode().partition("|")[2]
        by_code[code] = by_code.get(code, 0) + int(count)
    assert by_code == {"invalid_value": 1, "model_not_found": 2, "model_busy": 1}
    assert not redis_client.exists(store.OPEN)
    assert not await in_database(RequestRecord.objects.exists)


async def test_failed_answer_is_recorded_with_its_tokens_and_is_no_refusal(
    api: Api,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    service: Runtime,
    redis_client: "redis.Redis",
):
    body = {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]}
    request = asyncio.create_task(api.post(PATH, body))
    failed = Failed("grammar_failed", "It cannot go on.", usage=Usage(5, 3))
    await scripted_host.answer(Started(5), Delta("a", [1, 2, 3]), failed)
    assert (await request).status_code == 422
    (record,) = await recorded()
    assert (record.outcome, record.error_code) == ("failed", "grammar_failed")
    assert (record.prompt_tokens, record.completion_tokens) == (5, 3)
    await service.ledger.close()
    assert not redis_client.exists(store.REFUSED)


async def test_ledger_agrees_with_the_engines(
    api: Api, model: FakeModel, service: Runtime, redis_client: "redis.Redis"
):
    await in_database(add_price, model.version)
    for length in (1, 7, 20):
        await api.post(PATH, chat(model, max_tokens=length, ignore_eos=True))
        await body_of(await api.post(PATH, chat(model, n=2, max_tokens=length, stream=True)))
    await service.ledger.close()
    findings = await in_database(check, redis_client)
    assert {finding.name: finding.difference for finding in findings if finding.difference} == {}
    accepted = next(finding for finding in findings if "accepted" in finding.name)
    engines = next(finding for finding in findings if "engines" in finding.name)
    assert accepted.left == 6
    assert engines.left > 3 * (1 + 7 + 20)
