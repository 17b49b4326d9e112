"""One trace over web, queue and host, sent to a real collector."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from inference import tracing
from inference.runs.runtime import Runtime
from tests.collector import Collector
from tests.inference.test_consumer_chat import socket_of
from tests.inference_site.test_http import connected, request
from tests.stack import (  # noqa: F401 - fixtures
    Api,
    FakeModel,
    api,
    configure,
    database,
    embedding_model,
    model,
    redis_client,
    service,
    shared_tokenizer,
    sse_events,
    version,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVER = 2


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().listening() as collector:
        yield collector


@pytest.fixture
def traced(settings: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tracing by this process, which is web and host, to the collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    for name in tracing.DEFAULTS:
        monkeypatch.setenv(name, tracing.DEFAULTS[name])
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    settings.TRACING = True
    tracing.start()
    yield
    tracing.stop()


async def post(api: Api, path: str, body: Any, *headers: str) -> tuple[int, bytes]:  # noqa: F811
    data = json.dumps(body).encode()
    head = (f"x-api-key: {api.secret}", f"Content-Length: {len(data)}", *headers)
    async with connected() as connect:
        client = await connect()
        await client.send(request("POST", path, *head, version="1.0"), data)
        status, _ = await client.head()
        return status, await client.rest()


def chat(slug: str, **fields: Any) -> dict[str, Any]:
    return {"model": slug, "messages": [{"role": "user", "content": "x"}], **fields}


async def test_stream_of_many_chunks_is_one_trace_of_five_spans(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    traced: None,
    collector: Collector,
):
    model.take_time(0.002)
    body = chat(model.slug, stream=True, max_tokens=300, ignore_eos=True)
    _, events = await post(
        api, "/v1/chat/completions", body, f"traceparent: {TRACEPARENT}", "X-Request-Id: mine"
    )
    run_id = sse_events(events)[0]["id"]
    name = f"chat {model.slug}"
    found = await asyncio.to_thread(collector.trace, TRACE, 5)
    web, host = found["POST /v1/chat/completions"], found[name]
    assert web.kind == SERVER
    assert {span.name: span.parent_id for span in found.values()} == {
        web.name: PARENT, "queue": web.span_id, name: web.span_id,
        "prefill": host.span_id, "decode": host.span_id,
    }  # fmt: skip
    assert web.attributes["service.name"] == "brigade"
    assert web.attributes["brigade.request_id"] == "mine"
    assert web.attributes["http.response.status_code"] == 200
    expected = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "brigade",
        "gen_ai.request.model": model.slug,
        "gen_ai.request.max_tokens": 300, "gen_ai.response.model": model.key,
        "gen_ai.response.id": run_id, "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.output_tokens": 300,
    }  # fmt: skip
    assert expected.items() <= host.attributes.items()
    assert host.attributes["gen_ai.usage.input_tokens"] > 0
    times = [found[each] for each in ("queue", "prefill", "decode")]
    assert all(web.start - 10**7 <= span.start <= span.end <= web.end for span in times)
    assert found["decode"].end - found["decode"].start > 300 * 2 * 10**6
    assert found["queue"].end == host.start == found["prefill"].start


async def test_only_some_requests_are_sampled_unless_the_client_asks(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    traced: None,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
):
    model.say("hello")
    unsampled = TRACEPARENT.removesuffix("1") + "0"
    for header in ("x: y", "traceparent: nonsense", f"traceparent: {unsampled}"):
        await post(api, "/v1/chat/completions", chat(model.slug), header)
    await post(
        api, "/v1/completions", {"model": model.slug, "prompt": "x"}, f"traceparent: {TRACEPARENT}"
    )
    found = await asyncio.to_thread(collector.trace, TRACE, 5)
    assert f"text_completion {model.slug}" in found
    # One of two requests without a sampled parent is drawn with a probability of 0.1.
    assert len({span.trace_id for span in collector.spans}) <= 3


async def test_socket_takes_the_span_from_the_handshake(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    traced: None,
    collector: Collector,
):
    model.say("hello")
    async with socket_of(api, (b"traceparent", TRACEPARENT.encode())) as socket:
        await socket.send("stream_chat", **chat(model.slug))
        await socket.until("stream_end")
    found = await asyncio.to_thread(collector.trace, TRACE, 5)
    assert found["WS stream_chat"].parent_id == PARENT


async def test_embedding_and_failure_have_their_spans(
    embedding_model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    traced: None,
    collector: Collector,
):
    header = f"traceparent: {TRACEPARENT}"
    await post(api, "/v1/embeddings", {"model": embedding_model.slug, "input": "x"}, header)
    found = await asyncio.to_thread(collector.trace, TRACE, 4)
    assert f"embeddings {embedding_model.slug}" in found
    other = "2" * 32
    body = {"model": "junk", "input": "x"}
    status, _ = await post(api, "/v1/embeddings", body, f"traceparent: 00-{other}-{PARENT}-01")
    found = await asyncio.to_thread(collector.trace, other, 1)
    (span,) = found.values()
    assert span.attributes["http.response.status_code"] == status == 404


async def test_strangers_make_no_span(
    api: Api,  # noqa: F811
    service: Runtime,  # noqa: F811
    traced: None,
    collector: Collector,
):
    api.secret = "sk-brigade-wrong"
    status, _ = await post(api, "/v1/embeddings", {}, f"traceparent: {TRACEPARENT}")
    assert status == 401
    tracing.stop()
    assert collector.spans == []


async def test_collector_that_is_away_delays_neither_requests_nor_the_end(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    # Nothing listens on port 9; the exporter tries again and again.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    settings.TRACING = True
    tracing.start()
    model.say("hello")
    for _ in range(20):
        status, _ = await post(
            api, "/v1/chat/completions", chat(model.slug), f"traceparent: {TRACEPARENT}"
        )
        assert status == 200
    began = time.monotonic()
    tracing.stop()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("variable", ["NONE=", "OTEL_ENABLED=false", "OTEL_SDK_DISABLED=true"])
def test_exporter_is_neither_imported_nor_started_unless_tracing_is_on(variable: str):
    name, _, value = variable.partition("=")
    endpoint = {} if name == "NONE" else {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    program = (
        "import sys, threading, django, inference_site.asgi\n"
        # The library of Redis imports other parts of it.
        "exported = any(name.startswith('opentelemetry.exporter') for name in sys.modules)\n"
        "sys.exit(exported or threading.active_count() > 1)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **endpoint, name: value},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
