import asyncio
import threading

import pytest

from inference_site.tools.bench.client import CompletionClient, CompletionRequest, open_session
from inference_site.tools.bench.observation import Observation
from inference_site.tools.bench.target import Target
from tests.inference_site.tools.scripted_sse_server import (
    Drop,
    Status,
    ending,
    serving,
    sse,
    text,
    three_words,
)

MESSAGES = [{"role": "user", "content": "hello"}]


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def ask(script, *, clock=None, on_text=None, timeout_seconds=20.0, **request):
    """One request to a scripted server; returns the observation and the server."""

    async def run():
        async with serving(script) as server, open_session(timeout_seconds) as session:
            target = Target("test", server.base_url, "secret", "m")
            client = CompletionClient(session, target, clock or Clock())
            seen = Observation(50.0)
            await client.complete(CompletionRequest(MESSAGES, 8, 0.0, **request), seen, on_text)
            return seen, server

    return asyncio.run(run())


def failing(script, **options):
    seen, _ = ask(script, **options)
    assert seen.failure is not None
    return seen.failure


def test_client_reads_text_usage_and_finish():
    seen, server = ask(three_words)
    assert seen.failure is None
    assert seen.text == "one two three"
    assert (seen.finish_reason, seen.completion_tokens) == ("length", 3)
    assert seen.usage is not None
    assert (seen.usage.prompt_tokens, seen.usage.cached_tokens) == (10, 4)
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_client_takes_times_when_text_arrives_and_not_at_the_role():
    clock = Clock()
    arrived = threading.Semaphore(0)

    async def script(body):
        yield sse({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        clock.now += 0.5
        yield text("a")
        await asyncio.to_thread(arrived.acquire)
        clock.now += 0.25
        yield text("b")
        await asyncio.to_thread(arrived.acquire)
        clock.now += 0.125
        yield ending(5, 2)

    seen, _ = ask(script, clock=clock, on_text=lambda _: arrived.release())
    assert seen.ttft_seconds == 0.5
    assert seen.inter_token_seconds() == [0.25]
    assert seen.latency_seconds == 0.875


def test_client_hands_text_over_as_it_comes():
    pieces: list[str] = []
    ask(three_words, on_text=pieces.append)
    assert pieces == ["one ", "two ", "three"]


def test_client_reads_an_answer_that_is_not_streamed():
    async def script(body):
        assert "stream" not in body
        message = {"role": "assistant", "content": "hi"}
        usage = {"prompt_tokens": 4, "completion_tokens": 1}
        choice = {"message": message, "finish_reason": "stop"}
        yield Status(200, {"choices": [choice], "usage": usage})

    seen, _ = ask(script, stream=False)
    assert (seen.text, seen.finish_reason, seen.completion_tokens) == ("hi", "stop", 1)
    assert seen.ttft_seconds is None


def test_client_speaks_to_text_completions():
    async def script(body):
        yield sse({"choices": [{"text": "x", "finish_reason": "stop"}]})

    seen, server = ask(script, endpoint="completions")
    assert seen.text == "x"
    assert server.paths == ["/v1/completions"]
    assert server.bodies[0]["prompt"] == "hello"


@pytest.mark.parametrize("wanted", [True, False])
def test_client_sends_priority_only_to_servers_that_know_it(wanted):
    async def run():
        async with serving(three_words) as server, open_session(5) as session:
            target = Target("test", server.base_url, "", "m", sends_priority=wanted)
            request = CompletionRequest(MESSAGES, 8, 0.0, priority=3)
            await CompletionClient(session, target).complete(request, Observation(0.0))
            return server

    server = asyncio.run(run())
    assert ("priority" in server.bodies[0]) is wanted
    assert "Authorization" not in server.headers[0]


def test_http_error_is_recorded_with_status_code_and_message():
    async def script(body):
        yield Status(503, {"error": {"message": "The queue is full.", "code": "model_busy"}})

    failure = failing(script)
    assert (failure.kind, failure.message) == ("http_503 model_busy", "The queue is full.")


def test_http_error_that_is_not_json_is_recorded_as_text():
    async def script(body):
        yield Status(502, "a gateway's words")

    assert failing(script).kind == "http_502"
    assert "a gateway's words" in failing(script).message


def test_error_frame_in_a_stream_is_a_failure_and_keeps_the_text():
    async def script(body):
        yield text("half ")
        yield sse({"error": {"message": "The host died.", "code": "host_lost"}})

    seen, _ = ask(script)
    assert seen.failure is not None
    assert (seen.failure.kind, seen.failure.message) == (
        "stream_error host_lost",
        "The host died.",
    )
    assert seen.text == "half "


def test_dropped_connection_is_a_failure():
    async def script(body):
        yield text("half ")
        yield Drop()

    assert failing(script).kind == "disconnected"


def test_stream_that_ends_without_an_end_is_cut_off():
    async def script(body):
        yield text("half ")

    assert failing(script).kind == "cut_off"


def test_frame_that_is_not_json_is_a_failure():
    async def script(body):
        yield b"data: {oops\n\n"

    assert failing(script).kind == "bad_frame"


def test_answer_that_takes_too_long_is_a_timeout():
    async def script(body):
        yield text("a")
        await asyncio.Event().wait()

    assert failing(script, timeout_seconds=0.2).kind == "timeout"


def test_server_that_is_not_there_is_a_connect_failure():
    async def run():
        async with open_session(5) as session:
            seen = Observation(0.0)
            client = CompletionClient(session, Target("t", "http://127.0.0.1:9", "", "m"))
            await client.complete(CompletionRequest(MESSAGES, 8, 0.0), seen)
            return seen

    seen = asyncio.run(run())
    assert seen.failure is not None
    assert seen.failure.kind == "connect"
    assert "127.0.0.1:9" in seen.failure.message


def test_cancelled_request_closes_its_connection():
    async def script(body):
        yield text("a")
        await asyncio.Event().wait()

    async def run():
        begun = asyncio.Event()
        async with serving(script) as server, open_session(20) as session:
            client = CompletionClient(session, Target("t", server.base_url, "", "m"))
            asking = asyncio.create_task(
                client.complete(
                    CompletionRequest(MESSAGES, 8, 0.0), Observation(0.0), lambda _: begun.set()
                )
            )
            await begun.wait()
            asking.cancel()
            return await asyncio.to_thread(server.left.wait, 5)

    assert asyncio.run(run())
