"""Canaries get their share, and what is registered is in memory for as long as it is."""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.live.service import CHAT_VERSION, ROOT, LiveService
from tests.waiting import wait_until

pytestmark = pytest.mark.live
MODEL, _, LABEL = CHAT_VERSION.partition("@")
CANARY, SPARE = f"{MODEL}@canary", f"{MODEL}@spare"
LOAD_SECONDS = 60
_ADD = f"""
from models_registry.models import ModelVersion
for label, share in (("canary", 25), ("spare", 0)):
    version = ModelVersion.objects.get(model__slug="{MODEL}", label="{LABEL}")
    version.pk, version.label, version._state.adding = None, label, True
    version.is_default, version.canary_percent, version.kv_cells = False, share, 2048
    version.save()
"""
_REMOVE = f"""
from models_registry.models import ModelVersion
ModelVersion.objects.filter(model__slug="{MODEL}", label__in=("canary", "spare")).delete()
"""


def shell(service: LiveService, code: str) -> None:
    """Run ``code`` in the service's own Django shell."""
    command = [sys.executable, "manage.py", "shell", "-c", code]
    subprocess.run(command, cwd=ROOT, env=service.environment, check=True, timeout=60)


def call(service: LiveService, method: str, path: str, body: Any = None) -> dict[str, Any]:
    request = urllib.request.Request(
        service.base_url + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {service.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        content: dict[str, Any] = json.load(response)
    return content


@pytest.fixture
def versions(service: LiveService) -> Iterator[None]:
    """Two more versions of the chat model, one a canary."""
    shell(service, _ADD)
    try:
        yield
    finally:
        shell(service, _REMOVE)
        service.wait_ready()


def status_of(service: LiveService, version: str) -> dict[str, Any]:
    """The version in ``GET /api/status``; empty where it is not mentioned."""
    models = call(service, "GET", "/api/status")["models"]
    found: dict[str, Any] = next((one for one in models if one["version"] == version), {})
    return found


def is_loaded(service: LiveService, version: str) -> bool:
    replicas = status_of(service, version).get("replicas", [])
    return any(replica["state"] == "ready" for replica in replicas)


def register(service: LiveService, requester: str) -> dict[str, Any]:
    config = {"model_type": "text_generation", "name": SPARE, "preload_workers": 1, "top_k": 1}
    return call(
        service, "POST", "/api/models/registrations",
        {"model_id": "spare", "requester_module_id": requester, "model_config": config},
    )  # fmt: skip


def test_canary_gets_its_share_of_two_hundred_requests(
    service: LiveService, client: OpenAI, versions: None
) -> None:
    question: Any = [{"role": "user", "content": "Hi"}]
    seen: Counter[str] = Counter()
    for _ in range(200):
        answer = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=question, max_tokens=1, timeout=LOAD_SECONDS
        )
        seen[answer.headers["x-brigade-model-version"]] += 1
    assert set(seen) == {CHAT_VERSION, CANARY}
    # 25 % of 200, four standard deviations either way.
    assert 25 <= seen[CANARY] <= 75


def test_registered_model_is_in_memory_from_first_to_last_reference(
    service: LiveService, client: OpenAI, versions: None
) -> None:
    first, second = register(service, "module_a"), register(service, "module_b")
    assert (first["reference_count"], second["reference_count"]) == (1, 2)
    wait_until(lambda: is_loaded(service, SPARE), LOAD_SECONDS)

    assert service.stop() == 0
    service.start()
    assert status_of(service, SPARE)["references"] == 2
    assert register(service, "module_a")["new_registration"] is False
    wait_until(lambda: is_loaded(service, SPARE), LOAD_SECONDS)
    answer = client.chat.completions.with_raw_response.create(
        model="registration:spare", messages=[{"role": "user", "content": "Hi"}], max_tokens=1
    )
    assert answer.headers["x-brigade-model-version"] == SPARE

    released = call(service, "DELETE", f"/api/models/registrations/{first['id']}")
    assert released["references"] == 1
    assert is_loaded(service, SPARE)
    released = call(service, "DELETE", f"/api/models/registrations/{second['id']}")
    assert released["references"] == 0
    wait_until(lambda: not is_loaded(service, SPARE), LOAD_SECONDS)
    assert is_loaded(service, CHAT_VERSION)


def test_example_of_the_documentation_runs(service: LiveService) -> None:
    text = (ROOT / "docs" / "registrations.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "manage.py", "shell"], input=example, text=True, capture_output=True,
        cwd=ROOT, env=service.environment, timeout=90,
    )  # fmt: skip
    assert "2 vectors of 384 numbers\n" in done.stdout, done.stderr
    assert "the pool is ready\n0 references left\n" in done.stdout
    assert not done.stderr
