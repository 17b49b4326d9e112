"""Equal requests to two web processes share one generation, also when one of the two is killed."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import APIConnectionError, OpenAI

from tests.live.service import LiveService
from tests.waiting import wait_until

pytestmark = pytest.mark.live
MODEL = "smollm2-135m"
READERS = 40


@pytest.fixture
def second_web(service: LiveService) -> Iterator[tuple[subprocess.Popen[bytes], OpenAI]]:
    """Another web process of the service, and a client of it."""
    with service.second_web() as (process, url):
        yield process, OpenAI(base_url=f"{url}/v1", api_key=service.api_key, max_retries=0)


def ask(client: OpenAI, text: str, tokens: int) -> tuple[str, str, str]:
    """The cache's part, the answer and its id; "gone" where the web process has died."""
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": text}],
            max_tokens=tokens,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
    except APIConnectionError:
        return "gone", "", ""
    answer = raw.parse()
    return raw.headers["x-brigade-cache"], str(answer.choices[0].message.content), answer.id


def counts_of_readers(service: LiveService) -> list[Any]:
    client = service.redis
    return [client.zcard(name) for name in client.scan_iter("brigade:readers:*")]


def test_equal_requests_to_two_web_processes_make_one_generation(
    client: OpenAI, second_web: tuple[Any, OpenAI]
) -> None:
    clients = [client, second_web[1]] * (READERS // 2)
    text = f"Tell a story about the hour {time.time()}"
    with ThreadPoolExecutor(READERS) as pool:
        answers = list(pool.map(lambda one: ask(one, text, 150), clients))
    statuses = Counter(status for status, _, _ in answers)
    assert statuses["miss"] == 1
    assert set(statuses) <= {"miss", "flight", "exact"}
    assert len({said for _, said, _ in answers}) == 1
    assert len({run_id for _, _, run_id in answers}) == READERS


def test_readers_finish_when_the_web_process_of_the_first_is_killed(
    service: LiveService, client: OpenAI, second_web: tuple[Any, OpenAI]
) -> None:
    process, other = second_web
    text = f"Tell a story about the minute {time.time()}"
    with ThreadPoolExecutor(READERS) as pool:
        first = pool.submit(ask, other, text, 300)
        wait_until(lambda: service.running_sequences() == 1, 30)
        readers = [pool.submit(ask, client, text, 300) for _ in range(5)]
        wait_until(lambda: 6 in counts_of_readers(service), 30)
        process.kill()
        answers = [reader.result() for reader in readers]
    assert first.result()[0] == "gone"
    assert {status for status, _, _ in answers} == {"flight"}
    assert len({said for _, said, _ in answers}) == 1
