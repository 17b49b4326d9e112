"""Two nodes share the queue of one version, and one of them dies."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from inference.queue import keys
from tests.live.nodes import node
from tests.live.service import CHAT_VERSION, LiveService
from tests.model_files import model_file
from tests.waiting import wait_until

# Room for one replica of the chat model on each node, on the first beside the embedding model.
FIRST_BUDGET_BYTES, SECOND_BUDGET_BYTES = 950_000_000, 750_000_000
REQUESTS = 12


@pytest.fixture
def service() -> Iterator[LiveService]:
    service = LiveService(
        model_file("smollm2-135m").parent,
        INFERENCE_MEMORY_BUDGET_BYTES=str(FIRST_BUDGET_BYTES),
        INFERENCE_HEARTBEAT="0.5",
        INFERENCE_LEASE="3",
        INFERENCE_THREADS="1",
    )
    with service.running():
        yield service


@pytest.fixture
def second(service: LiveService, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The cluster of a second node, with a replica of the chat model of its own."""
    with node(service, "second", tmp_path, SECOND_BUDGET_BYTES) as cluster:
        wait_until(lambda: service.redis.exists(keys.node("second")), 30)
        service.execute(
            "UPDATE models_registry_modelversion SET preload_workers = 2 "
            "WHERE file_name LIKE 'SmolLM2%'"
        )
        wait_until(lambda: set(claims_by_node(service)) == {"local", "second"}, 60)
        yield cluster


def claims_by_node(service: LiveService) -> dict[str, int]:
    """How many generations the ready hosts of each node have claimed."""
    client = service.redis
    found: dict[str, int] = {}
    for launch in client.zrange(keys.ready(CHAT_VERSION), 0, -1):
        node = client.hget(keys.host(launch.decode()), "node")
        if node is not None:
            found[node.decode()] = int(client.hlen(keys.claims(launch.decode())))
    return found


def answer(service: LiveService) -> dict[str, Any]:
    """One long answer, whole; raises for any other status than 200."""
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "max_tokens": 150,
        "ignore_eos": True,
    }
    request = urllib.request.Request(
        service.base_url + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {service.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.timeout(240)
def test_two_nodes_share_a_queue_and_the_death_of_one_fails_nobody(
    service: LiveService, second: subprocess.Popen[bytes]
) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = [pool.submit(answer, service) for _ in range(REQUESTS)]
        shares = wait_until(lambda: _when_all_claimed(service), 30, poll_seconds=0.005)
        second.kill()
        bodies = [each.result() for each in answers]
    # One whose loop was late by a tenth of a second may have left one to the other.
    assert min(shares.values()) >= REQUESTS // 2 - 1
    assert [body["usage"]["completion_tokens"] for body in bodies] == [150] * REQUESTS
    wait_until(lambda: set(claims_by_node(service)) == {"local"}, 30)


def _when_all_claimed(service: LiveService) -> dict[str, int]:
    shares = claims_by_node(service)
    return shares if sum(shares.values()) == REQUESTS else {}
