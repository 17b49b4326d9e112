"""Real clients get real text from the real model."""

import asyncio
import base64
import json
import re
import stat
import subprocess
import time
from typing import Any

import numpy as np
import pytest
import websockets
from llama_cpp import Llama
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from inference.queue import keys
from metrics.ledger import store
from tests.live.service import CHAT_VERSION, ROOT, LiveService
from tests.waiting import wait_until

pytestmark = pytest.mark.live
MODEL = "smollm2-135m"
QUESTION: Any = [{"role": "user", "content": "Tell me about the sea."}]
# Here the likeliest token leads by far. Elsewhere the model often has two nearly equal ones, and
# which of them comes depends on how many tokens are computed in one batch.
COUNTING: Any = [{"role": "user", "content": "Count from 1 to 20."}]


def test_printed_curl_line_works_as_pasted(service: LiveService) -> None:
    lines = wait_until(
        lambda: re.findall(r"^curl .*$", service.output_path.read_text(), re.MULTILINE)
    )
    # Later starts print a line that reads the key from where the first put it.
    for line in (lines[0], lines[-1]):
        answer = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=60)
        assert json.loads(answer.stdout)["choices"][0]["message"]["content"].strip()


def test_first_run_file_is_private_and_complete(service: LiveService) -> None:
    mode = (service.home / "first_run.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert set(service.first_run) == {"base_url", "api_key", "admin_user", "admin_password"}
    assert service.first_run["base_url"] == service.base_url


def test_sdk_chat_answers(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_sdk_stream_equals_whole_answer_at_temperature_zero(client: OpenAI) -> None:
    common: Any = {"model": MODEL, "messages": COUNTING, "max_tokens": 20, "temperature": 0}
    common |= {"extra_body": {"cache": {"mode": "no-store"}}}
    whole = client.chat.completions.create(**common).choices[0].message.content
    pieces, usages = [], []
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(**common, stream=True, stream_options=options):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        usages.append(chunk.usage)
    assert "".join(pieces) == whole
    assert usages[-1].completion_tokens == 20
    assert usages[:-1] == [None] * (len(usages) - 1)


async def test_async_sdk_streams_several_choices(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=8, n=3, stream=True, seed=1
    )
    ends = [c.index async for chunk in stream for c in chunk.choices if c.finish_reason]
    assert sorted(ends) == [0, 1, 2]


def test_sdk_embeddings_have_the_published_similarity(client: OpenAI) -> None:
    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    answer = client.embeddings.create(model="all-minilm-l6-v2", input=texts)
    vectors = np.array([entry.embedding for entry in answer.data])
    assert vectors @ vectors[0] == pytest.approx([1.0, 0.943, 0.257], abs=0.01)
    raw = client.embeddings.create(
        model="all-minilm-l6-v2", input=texts[0], encoding_format="base64"
    )
    decoded = np.frombuffer(base64.b64decode(str(raw.data[0].embedding)), dtype="<f4")
    assert decoded == pytest.approx(vectors[0], abs=1e-5)


def test_greedy_text_equals_llama_cpp_alone(client: OpenAI, smollm2_path) -> None:
    # With the version's options, and prompts after which the likeliest token leads by far: see
    # COUNTING.
    reference = Llama(
        str(smollm2_path),
        n_ctx=2048,
        n_threads=2,
        flash_attn=True,
        verbose=False,
    )
    for prompt, length in (
        ("The capital of France is", 12),
        ("1, 2, 3, 4, 5,", 24),
        ("2 4 6 8 10 12", 24),
    ):
        tokens = reference.tokenize(prompt.encode(), add_bos=False)
        expected = reference.create_completion(
            tokens, max_tokens=length, temperature=0, repeat_penalty=1.0
        )
        answer = client.completions.create(
            model=MODEL, prompt=prompt, max_tokens=length, temperature=0
        )
        assert answer.choices[0].text == expected["choices"][0]["text"]
    reference.close()


def test_errors_reach_the_sdk_as_its_own_classes(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=100_000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(BadRequestError, match="made_up"):
        client.chat.completions.create(model=MODEL, messages=QUESTION, extra_body={"made_up": True})


async def test_32_streams_do_not_mix_and_end_once(
    service: LiveService, async_client: AsyncOpenAI
) -> None:
    # A bias that no logit can outweigh makes each stream say one token of its own.
    async def one(index: int) -> tuple[str, int]:
        stream = await async_client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Say anything {index}"}],
            max_tokens=24,
            temperature=0,
            logit_bias={str(1000 + index): 100},
            stream=True,
        )
        text, ends = "", 0
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                ends += choice.finish_reason is not None
        return text, ends

    spelled = await asyncio.to_thread(_spellings, service, [1000 + i for i in range(32)])
    results = await asyncio.gather(*(one(index) for index in range(32)))
    assert [ends for _, ends in results] == [1] * 32
    assert [text for text, _ in results] == [spelling * 24 for spelling in spelled]


async def test_100_clients_that_leave_at_once_free_their_sequences(
    service: LiveService, async_client: AsyncOpenAI
) -> None:
    # Records of earlier tests are written a moment after their answers.
    await asyncio.to_thread(wait_until, lambda: not service.redis.exists(store.OPEN), 60)
    before = service.query("SELECT count(*) FROM metrics_requestrecord")[0][0]
    begun = 0

    async def listen(index: int) -> None:
        nonlocal begun
        stream = await async_client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Tell a very long story {index}"}],
            max_tokens=2000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        has_begun = False
        async for chunk in stream:
            if not has_begun and chunk.choices[0].delta.content:
                has_begun = True
                begun += 1

    # As many run as the model has sequences; the others wait and leave from the queue.
    listeners = [asyncio.create_task(listen(index)) for index in range(100)]
    await asyncio.to_thread(wait_until, lambda: begun == 32 and _waiting(service) == 68, 60)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    left_at = time.monotonic()
    await asyncio.to_thread(wait_until, lambda: service.running_sequences() == 0, 10)
    freed_after_seconds = time.monotonic() - left_at
    assert freed_after_seconds < 4, "2 s, and as much again for a busy machine"
    assert _waiting(service) == 0
    sql = (
        f"SELECT outcome, completion_tokens FROM metrics_requestrecord ORDER BY id OFFSET {before}"
    )
    await asyncio.to_thread(wait_until, lambda: len(service.query(sql)) == 100, 20)
    rows = service.query(sql)
    assert {outcome for outcome, _ in rows} == {"cancelled"}
    assert sum(tokens > 0 for _, tokens in rows) == 32
    assert all(tokens < 2000 for _, tokens in rows)


async def test_websocket_streams_stops_and_resumes(service: LiveService) -> None:
    url = f"ws://127.0.0.1:{service.port}/ws?token={service.api_key}"
    chat = {
        "event": "stream_chat",
        "data": {
            "model": MODEL, "prompt": "Count on and on", "max_tokens": 2000, "ignore_eos": True,
        },
    }  # fmt: skip
    async with websockets.connect(url) as first, websockets.connect(url) as second:
        await first.send(json.dumps(chat))
        start = json.loads(await first.recv())
        assert start["event"] == "stream_start"
        tokens = [json.loads(await first.recv()) for _ in range(5)]
        assert {message["event"] for message in tokens} == {"stream_token"}
        stream_id = start["data"]["stream_id"]
        resume = {"stream_id": stream_id, "index": tokens[1]["data"]["index"]}
        await second.send(json.dumps({"event": "resume", "data": resume}))
        await second.recv()
        again = [json.loads(await second.recv()) for _ in range(3)]
        assert [m["data"] for m in again] == [m["data"] for m in tokens[2:]]
        stop = {"event": "stop_generation", "data": {"stream_id": stream_id}}
        await second.send(json.dumps(stop))
        while (end := json.loads(await first.recv()))["event"] == "stream_token":
            pass
        assert end["event"] == "stream_end"
        assert end["data"]["finish_reason"] == "cancelled"
        assert 5 <= end["data"]["usage"]["completion_tokens"] < 2000


def test_second_up_on_the_same_home_is_refused(service: LiveService) -> None:
    second = subprocess.run(
        service.command, env=service.environment, cwd=ROOT, capture_output=True, timeout=60
    )
    assert second.returncode != 0
    assert service.process is not None
    assert str(service.process.pid) in second.stderr.decode()


def _waiting(service: LiveService) -> int:
    """Generations in the chat model's queue."""
    return int(service.redis.zcard(keys.queue(CHAT_VERSION)))


def _spellings(service: LiveService, token_ids: list[int]) -> list[str]:
    client = OpenAI(base_url=service.base_url + "/v1", api_key=service.api_key)
    return [
        client.post("/detokenize", body={"model": MODEL, "tokens": [token_id]}, cast_to=dict)[
            "content"
        ]
        for token_id in token_ids
    ]
