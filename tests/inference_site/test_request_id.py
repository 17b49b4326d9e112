"""Every answer names its request, and so do error, log and record."""

import json
import logging
from typing import Any

import pytest

from inference.request_id import accepted_id, current_request_id
from inference.runs.runtime import Runtime
from inference_site import settings
from inference_site.asgi import application
from inference_site.log_filters import add_request_id
from tests.inference.test_consumer_chat import Communicator, socket_of
from tests.inference_site.test_http import connected, error_of, request
from tests.stack import (  # noqa: F401 - fixtures
    Api,
    FakeModel,
    api,
    database,
    model,
    record_of,
    redis_client,
    service,
    shared_tokenizer,
    sse_events,
    version,
)


def chat(slug: str, **fields: Any) -> bytes:
    return json.dumps(
        {"model": slug, "messages": [{"role": "user", "content": "x"}], **fields}
    ).encode()


@pytest.mark.parametrize("given", ["r1", "a b", "~" * 128, '{"x": 1}'])
def test_id_is_taken_as_it_is(given: str):
    assert accepted_id(given) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "é", "a\tb", "a\nb", "a\x7f", None, 7, {}])
def test_unprintable_id_is_refused(given: object):
    assert accepted_id(given) == ""


@pytest.mark.parametrize(
    "path", ["/health", "/v1/models", "/nothing", "/admin/login/", "/", "/static/nothing"]
)
async def test_every_answer_has_the_id(database: None, path: str):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", path, "X-Request-Id: mine"))
        _, headers, body = await client.answer()
        assert headers["x-request-id"] == "mine"
        if b'"error"' in body:
            assert error_of(body)["details"]["request_id"] == "mine"


async def test_request_without_an_id_gets_one_of_its_own(database: None):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        ids = set()
        for header in ("x: y", "X-Request-Id: " + "x" * 129, "X-Request-Id: é"):
            await client.send(request("GET", "/health", header))
            ids.add((await client.answer())[1]["x-request-id"])
        assert len(ids) == 3
        assert all(len(one) == 32 for one in ids)


async def test_id_is_in_stream_and_record(model: FakeModel, api: Api):  # noqa: F811
    model.say("hello")
    body = chat(model.slug, stream=True)
    key = (f"x-api-key: {api.secret}", f"Content-Length: {len(body)}", "X-Request-Id: mine")
    async with connected() as connect:
        client = await connect()
        await client.send(request("POST", "/v1/chat/completions", *key, version="1.0"), body)
        _, headers = await client.head()
        events = sse_events(await client.rest())
    assert headers["x-request-id"] == "mine"
    assert (await record_of(events[0]["id"])).request_id == "mine"


async def test_socket_has_an_id_and_each_request_may_have_its_own(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
):
    model.say("hello")
    fields = json.loads(chat(model.slug))
    async with socket_of(api, (b"x-request-id", b"socket")) as socket:
        for given, named in (("mine", "mine"), (None, "socket"), (7, "socket"), ("é", "socket")):
            await socket.send("stream_chat", **fields, request_id=given)
            end = (await socket.until("stream_end"))[-1][1]
            assert (await record_of(end["stream_id"])).request_id == named
            await socket.send("stream_chat", request_id=given)
            _, data = await socket.receive()
            assert data["request_id"] == given
            assert data["error"]["details"]["request_id"] == named
        await socket.send("nonsense")
        _, data = await socket.receive()
        assert data["error"]["details"]["request_id"] == "socket"


async def test_socket_sends_its_id_when_it_opens(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
):
    headers = [(b"x-request-id", b"mine")]
    communicator = Communicator(application, f"/ws?token={api.secret}", headers=headers)
    await communicator.send_input({"type": "websocket.connect"})
    opened = await communicator.receive_output(timeout=10)
    assert opened["headers"] == [(b"x-request-id", b"mine")]
    await communicator.disconnect()


async def test_log_lines_have_the_id(
    database: None,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
):
    caplog.handler.addFilter(add_request_id)
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        async with connected() as connect:
            client = await connect()
            await client.send(request("GET", "/nothing", "X-Request-Id: mine"))
            await client.answer()
    (line,) = [one for one in caplog.records if one.name == "uvicorn.access"]
    formatted = logging.Formatter(settings.LOGGING["formatters"]["line"]["format"]).format(line)
    assert "uvicorn.access [mine] 127.0.0.1" in formatted
    assert settings.LOGGING["handlers"]["console"]["filters"] == ["line"]


def test_log_line_outside_of_requests_has_none():
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", (), None)
    assert add_request_id(record)
    text = logging.Formatter(settings.LOGGING["formatters"]["line"]["format"]).format(record)
    assert text.endswith("INFO x said")


async def test_task_that_outlives_a_request_has_not_its_id(
    model: FakeModel,  # noqa: F811
    api: Api,  # noqa: F811
    service: Runtime,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    model.say("hello")
    ids = set()
    read = service.reader._read_once

    async def noted() -> None:
        ids.add(current_request_id.get())
        await read()

    monkeypatch.setattr(service.reader, "_read_once", noted)
    current_request_id.set("mine")
    await api.post("/v1/chat/completions", chat(model.slug))
    assert ids == {""}
