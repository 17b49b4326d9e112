import asyncio
from dataclasses import replace

from inference_site.tools.bench.client import open_session
from inference_site.tools.bench.load import Background, Load
from inference_site.tools.bench.plan import PlanKey
from inference_site.tools.bench.runner import LiveCounts, LoadRun
from inference_site.tools.bench.summary import summarise
from inference_site.tools.bench.target import Target
from tests.inference_site.tools.scripted_sse_server import (
    Status,
    ending,
    serving,
    text,
    three_words,
)

KEY = PlanKey(seed=1, nonce="n", part="single")


def run_load(load, script=three_words, counts=None):
    """Sends a load to a scripted server; returns the result and the server."""

    async def run():
        async with serving(script) as server, open_session(20) as session:
            target = Target("test", server.base_url, "", "m")
            load_run = LoadRun(session, target, load, KEY, counts or LiveCounts())
            return await asyncio.wait_for(load_run.run(), 20), server

    return asyncio.run(run())


def barrier_script(parties):
    """A script whose answers end only when ``parties`` of them are running at once."""
    barrier = asyncio.Barrier(parties)

    async def script(body):
        yield text("a")
        await barrier.wait()
        yield ending(5, 1)

    return script


def test_closed_loop_holds_as_many_conversations_as_asked_for():
    load = Load(requests=12, concurrency=4, warmup=0)
    result, server = run_load(load, barrier_script(4))
    assert len(result.observations) == 12
    assert server.most_running == 4


def test_warmup_is_sent_first_and_not_measured():
    counts = LiveCounts()
    result, server = run_load(Load(requests=3, concurrency=1, warmup=2), counts=counts)
    assert len(server.bodies) == 5
    assert len(result.observations) == 3
    assert (counts.done, counts.failed, counts.pieces) == (3, 0, 9)


def test_every_request_of_a_run_has_a_prompt_of_its_own():
    _, server = run_load(Load(requests=8, concurrency=8, warmup=2))
    openings = {body["messages"][0]["content"] for body in server.bodies}
    assert len(openings) == 10


def test_multi_turn_sends_the_answers_back_as_history():
    load = Load(requests=3, turns=3, concurrency=1, warmup=0)
    result, server = run_load(load)
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    assert roles[0] == ["system", "user"]
    assert roles[2] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert server.bodies[2]["messages"][2]["content"] == "one two three"
    asked = [seen.requested_prompt_tokens for seen in result.observations]
    assert asked == [60, 60 + 64 + 60, 2 * (60 + 64) + 60]


def test_failed_turn_ends_its_conversation_and_all_requests_are_accounted_for():
    async def script(body):
        if len(body["messages"]) > 2:
            yield Status(500, {"error": {"message": "broken", "code": "internal_error"}})
        else:
            async for step in three_words(body):
                yield step

    load = Load(requests=8, turns=4, concurrency=2, warmup=0)
    result, _ = run_load(load, script)
    summary = summarise("test", load, result)
    assert len(result.observations) == 8
    assert summary.completed == 2
    assert {f.kind: f.count for f in summary.failures} == {
        "http_500 internal_error": 2,
        "not_sent": 4,
    }


def test_open_loop_does_not_wait_for_answers():
    load = Load(requests=6, concurrency=None, arrival_rate_per_second=1000.0, warmup=0)
    result, server = run_load(load, barrier_script(6))
    assert server.most_running == 6
    assert len(result.observations) == 6


def test_background_runs_beside_the_measured_requests_and_is_not_measured():
    load = Load(
        requests=4,
        concurrency=1,
        warmup=0,
        output_tokens=7,
        priority=3,
        background=Background(concurrency=3, prompt_tokens=60, output_tokens=20, priority=1),
    )
    result, server = run_load(load)
    assert len(result.observations) == 4
    assert result.background_failures == []
    background = [body for body in server.bodies if body["priority"] == 1]
    assert len(background) >= 3
    assert {body["max_tokens"] for body in server.bodies if body["priority"] == 3} == {7}
    assert all(10 <= body["max_tokens"] <= 20 for body in background)


def test_failing_background_and_warmup_are_counted_as_failures():
    async def script(body):
        yield Status(503, {"error": {"message": "full", "code": "model_busy"}})

    load = Load(
        requests=2,
        concurrency=1,
        warmup=1,
        background=Background(concurrency=2, prompt_tokens=60, output_tokens=20, priority=1),
    )
    result, _ = run_load(load, script)
    kinds = {f.kind: f.count for f in summarise("test", load, result).failures}
    assert kinds == {
        "http_503 model_busy": 2,
        "background http_503 model_busy": 2,
        "warm-up http_503 model_busy": 1,
    }


def test_summary_counts_real_tokens_and_rates():
    load = Load(requests=4, concurrency=2, warmup=0)
    result, _ = run_load(load)
    summary = summarise("test", load, replace(result, duration_seconds=2.0))
    assert summary.output_tokens_per_second == 4 * 3 / 2
    assert summary.total_tokens_per_second == 4 * 13 / 2
    assert summary.requests_per_second == 2.0
    assert summary.prompt_tokens.requested_mean == 60
    assert summary.prompt_tokens.actual is not None
    assert summary.prompt_tokens.actual.mean == 10
    assert summary.completion_tokens.requested_mean == 64
    assert summary.cached_tokens_total == 16
    assert summary.finish_reasons == {"length": 4}
    assert summary.requests_without_usage == 0
    assert summary.ttft_seconds is not None
    assert summary.ttft_seconds.count == 4
