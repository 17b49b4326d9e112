"""The WebSocket, through the whole ASGI application."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator
from rest_framework_simplejwt.tokens import AccessToken

from inference.database import in_database
from inference.messages import Delta, Failed, Started, run_id_of
from inference.models import ApiKey
from inference.runs.runtime import Runtime
from inference_site.asgi import application
from models_registry.models import ModelVersion
from tests.stack import (  # noqa: F401 - fixtures
    Api,
    FakeModel,
    ScriptedHost,
    api,
    configure,
    database,
    eventually,
    make_api,
    model,
    record_of,
    redis_client,
    scripted_host,
    service,
    shared_tokenizer,
    stranger,
    version,
)

WAIT_SECONDS = 10


class Communicator(WebsocketCommunicator):
    """Channels' own keeps database connections open, for tests within one transaction."""

    send_input = ApplicationCommunicator.send_input
    receive_output = ApplicationCommunicator.receive_output


class Socket:
    """One connection, in the protocol's own words."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator

    async def send(self, event: str, **data: Any) -> None:
        await self.communicator.send_json_to({"event": event, "data": data})

    async def receive(self) -> tuple[str, dict[str, Any]]:
        message = await self.communicator.receive_json_from(timeout=WAIT_SECONDS)
        return message["event"], message["data"]

    async def until(self, wanted: str) -> list[tuple[str, dict[str, Any]]]:
        """Everything up to and with the first ``wanted`` event."""
        received = [await self.receive()]
        while received[-1][0] != wanted:
            received.append(await self.receive())
        return received


@asynccontextmanager
async def socket_of(
    client: Api, *headers: tuple[bytes, bytes], by_header: bool = False
) -> AsyncIterator[Socket]:
    if by_header:
        headers = ((b"authorization", f"Bearer {client.secret}".encode()), *headers)
    path = "/ws" if by_header else f"/ws?token={client.secret}"
    communicator = Communicator(application, path, headers=list(headers))
    accepted, _ = await communicator.connect(timeout=WAIT_SECONDS)
    assert accepted
    try:
        yield Socket(communicator)
    finally:
        await communicator.disconnect(timeout=WAIT_SECONDS)


async def refusal(path: str) -> tuple[dict[str, Any], int]:
    """(the error, the close code) of a connection that is not let in."""
    communicator = Communicator(application, path)
    await communicator.connect(timeout=WAIT_SECONDS)
    message = await communicator.receive_json_from(timeout=WAIT_SECONDS)
    assert message["event"] == "error"
    closed = await communicator.receive_output(timeout=WAIT_SECONDS)
    assert closed["type"] == "websocket.close"
    return message["data"]["error"], closed["code"]


def text_of(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["token"] for event, data in events if event == "stream_token")


def only_error(received: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    event, data = received
    assert event == "error"
    error: dict[str, Any] = data["error"]
    assert list(error)[:4] == ["message", "type", "param", "code"]
    return error


async def test_consumer_passes_over_what_a_stranger_sends_before_the_close(
    service: Runtime,  # noqa: F811
    database: None,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
):
    communicator = Communicator(application, "/ws")
    await communicator.send_input({"type": "websocket.connect"})
    await communicator.send_input({"type": "websocket.receive", "text": "{}"})
    kinds = [(await communicator.receive_output(WAIT_SECONDS))["type"] for _ in range(3)]
    assert kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    await communicator.disconnect()
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("query", ["", "?token=", "?token=sk-brigade-unknown", "?token=a.b.c"])
async def test_consumer_closes_with_4401_without_a_credential(
    service: Runtime,  # noqa: F811
    database: None,  # noqa: F811
    query: str,
):
    error, code = await refusal(f"/ws{query}")
    assert code == 4401
    assert error["type"] == "authentication_error"


async def test_consumer_closes_with_4403_without_the_scope(
    service: Runtime,  # noqa: F811
    operator: Api,
):
    error, code = await refusal(f"/ws?token={operator.secret}")
    assert code == 4403
    assert error["code"] == "insufficient_scope"


@pytest.fixture
def operator(database: None) -> Api:  # noqa: F811
    return make_api("operator", scopes=["models.operate"])


async def test_consumer_lets_a_token_in(service: Runtime, api: Api):  # noqa: F811
    token = str(AccessToken.for_user(api.user))
    communicator = Communicator(application, f"/ws?token={token}")
    assert (await communicator.connect(timeout=WAIT_SECONDS))[0]
    await communicator.disconnect()


@pytest.mark.parametrize("by_header", [False, True])
async def test_consumer_streams_a_chat(api: Api, model: FakeModel, by_header: bool):  # noqa: F811
    model.say("Grüße")
    async with socket_of(api, by_header=by_header) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi", request_id="r1")
        (first, start), *tokens, (last, end) = await socket.until("stream_end")
    assert (first, last) == ("stream_start", "stream_end")
    assert (start["model"], start["request_id"]) == (model.slug, "r1")
    assert text_of(tokens) == "Grüße"
    assert {data["stream_id"] for _, data in tokens} == {start["stream_id"]}
    indexes = [data["index"] for _, data in tokens]
    assert indexes == sorted(set(indexes))
    assert end["finish_reason"] == "stop"
    assert end["usage"]["completion_tokens"] == len("Grüße".encode()) + 1
    assert (await record_of(start["stream_id"])).outcome == "finished"


async def test_consumer_says_which_version_answers_and_that_it_is_deprecated(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.say("ok")
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        (_, start), *_ = await socket.until("stream_end")
        assert start["version"] == model.key
        assert "deprecation" not in start
        fields = {"is_deprecated": True, "deprecation_note": "Use another."}
        await in_database(ModelVersion.objects.update, **fields)
        await socket.send("stream_chat", model=model.key, prompt="Hi")
        (_, start), *_ = await socket.until("stream_end")
    assert start["deprecation"] == f"{model.key} is deprecated. Use another."


async def test_consumer_takes_messages_as_the_route_does(api: Api, model: FakeModel):  # noqa: F811
    model.say("ok")
    async with socket_of(api) as socket:
        messages = [{"role": "user", "content": "Hi"}]
        await socket.send("stream_chat", model=model.slug, messages=messages, n=2)
        events = await socket.until("stream_end")
    choices = [data["choice"] for event, data in events if event == "stream_token"]
    assert sorted(set(choices)) == [0, 1]
    assert sum(event == "stream_end" for event, _ in events) == 1


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"prompt": "Hi"}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "prompt": "Hi", "tempreture": 1}, "tempreture"),
        ({"model": "m", "prompt": "Hi", "temperature": 9}, "temperature"),
        ({"model": "m", "prompt": "Hi", "messages": []}, "prompt"),
        ({"model": "m", "prompt": "Hi", "stream": False}, "stream"),
        ({"model": "m", "prompt": "Hi", "logprobs": True}, "logprobs"),
        (
            {"model": "m", "prompt": "Hi", "stream_options": {"include_usage": True}},
            "stream_options",
        ),
    ],
)
async def test_consumer_names_what_is_wrong_with_a_chat(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    data: dict[str, Any],
    param: str,
):
    async with socket_of(api) as socket:
        await socket.send("stream_chat", request_id=7, **data)
        received = await socket.receive()
    assert only_error(received)["param"] == param
    assert received[1]["request_id"] == 7


@pytest.mark.parametrize(
    "message",
    [
        "x",
        "[]",
        "1",
        "null",
        "{}",
        '{"event": "nothing"}',
        '{"event": ["stream_chat"]}',
        '{"event": "stream_chat"}',
        '{"event": "stream_chat", "data": []}',
        '{"event": "stream_chat", "data": null}',
        '{"event": "resume"}',
        '{"event": "resume", "data": {"stream_id": 1}}',
        '{"event": "resume", "data": {"stream_id": "x", "index": -1}}',
        '{"event": "resume", "data": {"stream_id": "x", "index": 1e400}}',
        '{"event": "resume", "data": {"stream_id": "x", "index": 99999999999999999999999}}',
        '{"event": "stop_generation", "data": {"unknown": 1}}',
        '{"event": "stop_generation", "data": {"stream_id": "not-there"}}',
        '{"event": "stream_chat", "data": ' + "[" * 5000 + "]" * 5000 + "}",
        "[" * 100_000,
    ],
)
async def test_consumer_answers_a_bad_message_and_goes_on(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
    message: str,
):
    model.say("ok")
    async with socket_of(api) as socket:
        await socket.communicator.send_to(text_data=message)
        error = only_error(await socket.receive())
        assert error["type"] == "invalid_request_error"
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        assert text_of(await socket.until("stream_end")) == "ok"


async def test_consumer_answers_bytes_that_are_no_text(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
):
    async with socket_of(api) as socket:
        await socket.communicator.send_to(bytes_data=b'{"event": "\xff"}')
        assert only_error(await socket.receive())["code"] == "invalid_json"
        await socket.communicator.send_to(bytes_data=b'{"event": "resume", "data": {}}')
        assert only_error(await socket.receive())["param"] == "stream_id"


async def test_consumer_stops_from_another_connection(api: Api, model: FakeModel):  # noqa: F811
    model.take_time(0.01)
    async with socket_of(api) as first, socket_of(api) as second:
        await first.send("stream_chat", model=model.slug, prompt="Hi")
        ((_, start),) = await first.until("stream_start")
        seen = await first.until("stream_token")
        await second.send("stop_generation", stream_id=start["stream_id"])
        seen += await first.until("stream_end")
    end = seen[-1][1]
    assert end["finish_reason"] == "cancelled"
    assert end["usage"]["completion_tokens"] == len(text_of(seen))
    record = await record_of(start["stream_id"])
    assert (record.outcome, record.completion_tokens) == ("cancelled", len(text_of(seen)))
    await eventually(lambda: model.engine.is_idle)


async def test_consumer_stops_all_of_its_own_without_an_id(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.take_time(0.01)
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="One")
        await socket.send("stream_chat", model=model.slug, prompt="Two")
        await socket.until("stream_start")
        await socket.until("stream_start")
        await socket.send("stop_generation")
        await socket.until("stream_end")
        await socket.until("stream_end")
    await eventually(lambda: model.engine.is_idle)


async def test_consumer_does_not_stop_for_a_stranger(
    api: Api,  # noqa: F811
    stranger: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.take_time(0.01)
    async with socket_of(api) as own, socket_of(stranger) as other:
        await own.send("stream_chat", model=model.slug, prompt="Hi")
        ((_, start),) = await own.until("stream_start")
        for event in ("stop_generation", "resume"):
            await other.send(event, stream_id=start["stream_id"])
            assert only_error(await other.receive())["code"] == "stream_not_found"
        assert not model.engine.is_idle


async def test_consumer_resumes_without_gap_or_repetition(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.take_time(0.002)
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi", max_tokens=30)
        whole = await socket.until("stream_end")
    stream_id = whole[0][1]["stream_id"]
    tokens = [(event, data) for event, data in whole if event == "stream_token"]
    for cut in {1, len(tokens) // 2, len(tokens) - 1}:
        async with socket_of(api) as socket:
            index = tokens[cut - 1][1]["index"]
            await socket.send("resume", stream_id=stream_id, index=index)
            rest = await socket.until("stream_end")
        assert text_of(tokens[:cut]) + text_of(rest) == text_of(whole)
        assert rest[-1][1]["usage"] == whole[-1][1]["usage"]


async def test_consumer_ignores_empty_stream_options(api: Api, model: FakeModel):  # noqa: F811
    model.say("ok")
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi", stream_options={})
        assert text_of(await socket.until("stream_end")) == "ok"


async def test_socket_at_another_address_is_refused():
    communicator = Communicator(application, "/nothing")
    accepted, _ = await communicator.connect(timeout=WAIT_SECONDS)
    assert not accepted


async def test_consumer_that_resumes_after_the_last_frame_gets_the_end(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.say("all of it")
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        *_, (_, end) = await socket.until("stream_end")
    async with socket_of(api) as socket:
        await socket.send("resume", stream_id=end["stream_id"], index=end["index"])
        assert await socket.receive() == ("stream_end", end)


async def test_consumer_streams_calls_and_resumes_them(api: Api, model: FakeModel):  # noqa: F811
    arguments = '{"city": "Paris"}'
    model.say(f'{{"name": "weather", "arguments": {arguments}}}')
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi", tools=tools, n=2)
        events = await socket.until("stream_end")
        assert events[-1][1]["finish_reason"] == "tool_calls"
        stream_id = events[0][1]["stream_id"]

        def calls_of(seen: list[tuple[str, dict[str, Any]]], choice: int) -> tuple[list[Any], str]:
            pieces = [
                piece["function"]
                for event, data in seen
                if event == "stream_token" and data["choice"] == choice
                for piece in data["tool_calls"]
            ]
            names = [piece["name"] for piece in pieces if "name" in piece]
            return names, "".join(piece["arguments"] for piece in pieces)

        expected = (["weather"], arguments)
        assert [calls_of(events, choice) for choice in (0, 1)] == [expected] * 2
        assert text_of(events) == ""
        for cut in range(1, len(events) - 1, 4):
            place = [0, 0]
            for _, data in events[1 : cut + 1]:
                place[data["choice"]] = data["index"]
            await socket.send("resume", stream_id=stream_id, index=place)
            rest = await socket.until("stream_end")
            for choice in (0, 1):
                assert calls_of(events[: cut + 1] + rest, choice) == expected
        await socket.send("stream_chat", model=model.slug, prompt="Hi", tools=tools)
        *_, (_, end) = await socket.until("stream_end")
        await socket.send("resume", stream_id=end["stream_id"], index=end["index"])
        assert await socket.receive() == ("stream_end", end)


async def test_consumer_that_only_follows_does_not_stop_by_leaving(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    scripted_host: ScriptedHost,  # noqa: F811
):
    async with socket_of(api) as own:
        await own.send("stream_chat", model=version.model.slug, prompt="Hi")
        item = await scripted_host.answer(Started(3), Delta("x", [1]))
        async with socket_of(api) as follower:
            await follower.send("resume", stream_id=run_id_of(item.id))
            await follower.until("stream_token")
        assert scripted_host.claims.controls() == []


async def test_consumer_that_leaves_stops_what_it_started(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    model.take_time(0.01)
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        ((_, start),) = await socket.until("stream_start")
        await socket.until("stream_token")
    record = await record_of(start["stream_id"])
    assert record.outcome == "cancelled"
    assert 0 < record.completion_tokens < 500
    await eventually(lambda: model.engine.is_idle)


async def test_consumer_tells_of_a_failure_and_goes_on(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    scripted_host: ScriptedHost,  # noqa: F811
):
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=version.model.slug, prompt="Hi", request_id="r")
        item = await scripted_host.answer(Started(3), Delta("x", [1]), Failed("host_lost", "Died."))
        *_, last = await socket.until("error")
        assert only_error(last)["code"] == "host_lost"
        assert last[1]["stream_id"] == run_id_of(item.id)
        assert last[1]["request_id"] == "r"
        assert last[1]["error"]["details"]["retry_after_ms"] > 0


async def test_consumer_refuses_a_key_revoked_since_it_connected(
    api: Api,  # noqa: F811
    model: FakeModel,  # noqa: F811
):
    async with socket_of(api) as socket:
        key = await in_database(ApiKey.objects.get, user=api.user)
        await in_database(key.revoke)
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        assert only_error(await socket.receive())["type"] == "authentication_error"


async def test_consumer_bounds_streams_per_connection(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    version: ModelVersion,  # noqa: F811
    scripted_host: ScriptedHost,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("inference.consumers.MAX_STREAMS_PER_CONNECTION", 1)
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=version.model.slug, prompt="One")
        await socket.send("stream_chat", model=version.model.slug, prompt="Two")
        assert "1 streams" in only_error(await socket.receive())["message"]


async def test_consumer_refuses_too_large_a_message(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    configure: Any,  # noqa: F811
):
    configure(max_body_bytes=100)
    async with socket_of(api) as socket:
        await socket.communicator.send_to(text_data=json.dumps({"event": "x" * 200}))
        assert only_error(await socket.receive())["code"] == "request_too_large"
