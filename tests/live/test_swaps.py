"""Three real models, memory for two: swaps under traffic, and hosts killed while they swap."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.nodes import node
from tests.live.service import ROOT, LiveService
from tests.model_files import model_file
from tests.waiting import wait_until

BUDGET_BYTES = 1_950_000_000
MAXIMUM_LOAD_SECONDS, MAXIMUM_WAIT_SECONDS = 30.0, 60.0


@pytest.fixture(scope="module")
def models_dir() -> Path:
    """Where the files of all three are."""
    return {model_file(slug).parent for slug in ("gemma3-270m", "qwen2.5-coder-0.5b")}.pop()


def demonstrate(models_dir: Path, *arguments: str) -> dict[str, Any]:
    """Run the command; its JSON line, once it ended with 0."""
    ended = subprocess.run(
        [sys.executable, "manage.py", "demo_swap", *arguments],
        cwd=ROOT,
        env={**os.environ, "INFERENCE_MODELS_DIR": str(models_dir)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    report: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return report


@pytest.mark.timeout(300)
def test_swaps_under_traffic_fail_nobody_and_keep_the_budget(models_dir: Path) -> None:
    report = demonstrate(models_dir, "--seconds", "70")
    assert report["passed"]
    assert (report["failed"], report["breaches"], report["embedding_loads"]) == (0, 0, 0)
    # The limit that the report names grows with what was measured; these do not.
    assert report["longest_load_seconds"] <= MAXIMUM_LOAD_SECONDS
    assert report["longest_wait_seconds"] <= MAXIMUM_WAIT_SECONDS
    assert report["swaps"] >= 3
    assert report["peak_set_aside_bytes"] <= report["budget_bytes"]


@pytest.mark.timeout(300)
def test_hosts_killed_during_loads_and_swaps_fail_nobody(models_dir: Path) -> None:
    report = demonstrate(models_dir, "--seconds", "60", "--kill-every", "6", "--seed", "2")
    assert report["passed"]
    assert report["kills"] >= 3  # of hosts that load and of some that leave, by turns
    assert (report["failed"], report["breaches"]) == (0, 0)


@pytest.fixture(scope="module")
def fleet(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service whose node holds two of the three, and a cluster of a second node beside it."""
    service = LiveService(
        models_dir,
        INFERENCE_MEMORY_BUDGET_BYTES=str(BUDGET_BYTES),
        INFERENCE_HEARTBEAT="0.5",
        INFERENCE_THREADS="1",
    )
    home = tmp_path_factory.mktemp("second")
    with service.running(), node(service, "second", home, budget_bytes=1_000_000_000):
        for slug in ("gemma3-270m", "qwen2.5-coder-0.5b"):
            subprocess.run(
                [sys.executable, "manage.py", "fetch_model", slug],
                cwd=ROOT,
                env=service.environment,
                check=True,
            )
        wait_until(lambda: service.redis.exists("brigade:node:second"), 30)
        yield service


def chat(service: LiveService, model: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a short chat."""
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": model, "messages": messages, "max_tokens": 8, **fields}
    request = urllib.request.Request(
        service.base_url + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {service.api_key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ready_on(service: LiveService) -> dict[str, str]:
    """The node of each model that is ready."""
    rows = service.query(
        "SELECT m.slug, n.name FROM models_registry_replica r "
        "JOIN models_registry_modelversion v ON v.id = r.version_id "
        "JOIN models_registry_model m ON m.id = v.model_id "
        "JOIN models_registry_node n ON n.id = r.node_id WHERE r.state = 'ready'"
    )
    return dict(rows)


@pytest.mark.timeout(200)
def test_a_second_node_serves_what_the_first_has_no_room_for(fleet: LiveService) -> None:
    for model in ("gemma3-270m", "qwen2.5-coder-0.5b", "smollm2-135m"):
        status, body = chat(fleet, model)
        assert status == 200, body
    nodes = ready_on(fleet)
    assert nodes.keys() == {
        *("all-minilm-l6-v2", "smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")
    }
    assert set(nodes.values()) == {"local", "second"}


@pytest.mark.timeout(120)
def test_what_never_fits_is_503_with_numbers(fleet: LiveService) -> None:
    with_room = "UPDATE models_registry_node SET device_budgets = '{\"cpu\": 300000000}'"
    fleet.execute(with_room)
    try:
        unload_qwen(fleet)
        wait_until(lambda: "qwen2.5-coder-0.5b" not in ready_on(fleet), 30)
        status, body = chat(fleet, "qwen2.5-coder-0.5b")
        assert status == 503
        assert body["error"]["code"] == "model_unavailable"
        assert "MiB of cpu memory" in body["error"]["message"]
    finally:
        fleet.execute("UPDATE models_registry_node SET device_budgets = '{}'")


def unload_qwen(service: LiveService) -> None:
    """Want it out of memory."""
    service.execute(
        "UPDATE models_registry_replica SET desired = 'absent' FROM models_registry_modelversion v "
        "WHERE v.id = version_id AND v.file_name LIKE 'Qwen%'"
    )
