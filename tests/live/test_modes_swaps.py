"""A debate of three models in memory for two loads as few as can be."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from openai import OpenAI

from inference_site.embedded.urls import embedded_urls
from tests.live.service import ROOT, LiveService
from tests.model_files import model_file
from tests.waiting import wait_until

pytestmark = pytest.mark.live
RECONCILER, GEMMA, QWEN = "smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"
# Any two of the three fit beside the embedding model.
BUDGET_BYTES = 1_950_000_000
LAUNCHES = (
    "SELECT m.slug, r.launch_id, r.state FROM models_registry_replica r "
    "JOIN models_registry_modelversion v ON v.id = r.version_id "
    "JOIN models_registry_model m ON m.id = v.model_id"
)
PRESET = (
    "INSERT INTO models_registry_preset (name, title, orchestration_mode, description, hardware, "
    "settings, default_sampling, created_at, cache) SELECT 'X', '', 'debate', '', 'laptop', "
    """'{"max_rounds": 2}', '{}', now(), cache FROM models_registry_preset WHERE name = 'L3'"""
)
MEMBER = (
    "INSERT INTO models_registry_presetmember (position, role, model_id, preset_id) "
    "SELECT {position}, '{role}', m.id, p.id FROM models_registry_model m, "
    "models_registry_preset p WHERE m.slug = '{slug}' AND p.name = 'X'"
)


class Loads:
    """Launches of replicas, by the rows of the controller."""

    def __init__(self, service: LiveService) -> None:
        self.ready: set[str] = set()
        self.launches: set[tuple[str, UUID]] = set()
        self._url = embedded_urls(service.home)[0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stop.wait(0.1):
                rows = connection.execute(LAUNCHES).fetchall()
                self.ready = {slug for slug, _, state in rows if state == "ready"}
                self.launches |= {
                    (slug, launch) for slug, launch, state in rows if launch and state != "stopped"
                }

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the rows ten times a second: a load takes longer."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(10)


@pytest.fixture
def service() -> Iterator[LiveService]:
    directory: Path = {model_file(slug).parent for slug in (RECONCILER, GEMMA, QWEN)}.pop()
    service = LiveService(
        directory,
        INFERENCE_MEMORY_BUDGET_BYTES=str(BUDGET_BYTES),
        INFERENCE_HEARTBEAT="0.5",
        INFERENCE_MINIMUM_DWELL="1",
    )
    with service.running():
        for slug in (GEMMA, QWEN):
            command = [sys.executable, "manage.py", "fetch_model", slug]
            subprocess.run(command, cwd=ROOT, env=service.environment, check=True)
        service.execute(PRESET)
        members = [(slug, "debater") for slug in (RECONCILER, GEMMA, QWEN)]
        for position, (slug, role) in enumerate([*members, (RECONCILER, "reconciler")]):
            service.execute(MEMBER.format(position=position, role=role, slug=slug))
        yield service


@pytest.mark.timeout(240)
def test_debate_of_three_in_memory_for_two_makes_two_loads(service: LiveService) -> None:
    client = OpenAI(base_url=service.base_url + "/v1", api_key=service.api_key, max_retries=0)

    def ask(model: str, tokens: int = 2) -> Any:
        return client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Tell a short story."}],
            max_tokens=tokens,
            temperature=1.2,
            extra_body={"ignore_eos": True},
        )

    loads = Loads(service)
    with loads.watched():
        ask(QWEN)
        ask(GEMMA)
        wait_until(lambda: loads.ready == {"all-minilm-l6-v2", GEMMA, QWEN}, 30)
        before = set(loads.launches)
        told = ask("X", 12).model_extra["orchestration"]
        new = loads.launches - before
    assert [step["key"] for step in told["steps"]][-1] == "final"
    assert (len(told["steps"]), told["rounds"], told["degraded"]) == (7, 2, False)
    # The reconciler for the first round, and for the second the model that left for it.
    loaded = sorted(slug for slug, _ in new)
    assert loaded in (sorted([RECONCILER, GEMMA]), sorted([RECONCILER, QWEN]))
