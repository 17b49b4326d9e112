"""The prompt process: what hostile prompts and kills do to it, and to those who come after."""

import asyncio
import dataclasses
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from inference.errors import InvalidRequestError
from inference.prompts import prompt_process
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec
from tests.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
# Comparing these lists takes 2**60 steps inside one C call, which no signal handler interrupts.
DEAF = (
    "{% set ns = namespace(a=[0], b=[0]) %}"
    "{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}"
    "{% endfor %}{{ ns.a == ns.b }}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[Tokenizer]:
    subject = Tokenizer(1, 100_000)
    yield subject
    subject.close()


@pytest.fixture
def spec(smollm2_path: Path) -> ModelSpec:
    return ModelSpec("m", "m:1", "text_generation", str(smollm2_path), "", 8192, 8192, 8)


def with_template(spec: ModelSpec, template: str) -> ModelSpec:
    return dataclasses.replace(spec, chat_template=template)


async def answers(tokenizer: Tokenizer, spec: ModelSpec) -> bool:
    """Whether the process answers a prompt that no memory knows."""
    new = [{"role": "user", "content": uuid.uuid4().hex}]
    return bool(await tokenizer.chat(with_template(spec, "{{ messages[0].content }}"), new))


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param(
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "did not finish within 2 s",
            id="loops",
        ),
        pytest.param("{{ 'x' * 10 ** 10 }}", "too much memory", id="memory"),
        pytest.param("{{ 'x' * 10 ** 7 }}", "10000000 characters; the limit", id="long"),
        pytest.param("{{ ''.__class__.__mro__ }}", "refuses this conversation", id="escape"),
        pytest.param("{{ 1 / 0 }}", "refuses this conversation", id="error"),
    ],
)
async def test_prompt_process_survives_a_hostile_template(tokenizer, spec, template, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        await tokenizer.chat(with_template(spec, template), HELLO)
    assert caught.value.param == "messages"
    assert await answers(tokenizer, spec)


async def test_prompt_process_dies_with_one_prompt_and_serves_the_others(tokenizer, spec):
    """Only the prompt that kills the process twice is refused; prompts behind it are answered."""
    hostile = tokenizer.chat(with_template(spec, DEAF), HELLO)
    others = [answers(tokenizer, spec) for _ in range(3)]
    refused, *served = await asyncio.gather(hostile, *others, return_exceptions=True)
    assert isinstance(refused, InvalidRequestError)
    assert "ended twice" in refused.message
    assert served == [True] * 3


async def test_prompt_process_killed_is_replaced(tokenizer, spec):
    assert await answers(tokenizer, spec)
    (child,) = tokenizer._pool._processes.values()
    os.kill(child.pid or 0, signal.SIGKILL)
    assert await answers(tokenizer, spec)
    assert child not in multiprocessing.active_children()


async def test_prompt_process_ends_when_closed(spec):
    subject = Tokenizer(1, 1000)
    before = {child.pid for child in multiprocessing.active_children()}
    assert await answers(subject, spec)
    (mine,) = (c for c in multiprocessing.active_children() if c.pid not in before)
    subject.close()
    wait_until(lambda: not mine.is_alive())
    assert await answers(subject, spec)
    subject.close()


def test_prompt_process_ends_with_its_parent(smollm2_path):
    command = [sys.executable, "-m", "tests.inference.prompt_parent", str(smollm2_path)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            assert child.is_running()
        finally:
            parent.kill()
    try:
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    finally:
        if child.is_running():
            child.kill()


def test_prompt_process_keeps_a_lower_memory_limit(monkeypatch):
    lower = prompt_process.MEMORY_BYTES // 2
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (lower, lower))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    prompt_process.limit_memory()
    assert limits == [(lower, lower)]
