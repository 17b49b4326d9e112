"""kill -9 of any part: what was running ends clearly or goes on, and the service comes back."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import APIError, OpenAI

from tests.live.service import CHAT_VERSION, LiveService
from tests.waiting import wait_until

pytestmark = pytest.mark.live
MODEL = "smollm2-135m"
EMBEDDING_VERSION = "all-minilm-l6-v2@f16"
# A bias that no logit outweighs makes a stream say one word for ever: a token lost or said twice
# shows in the length of the text.
WORD, WORD_ID = " that", 338
LENGTH = 300
SAY_WORD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell a very long story"}],
    "logit_bias": {str(WORD_ID): 100},
}
# Here the likeliest of 300 tokens leads by 0.35 or more, so that it does not depend on how many are
# computed in one batch.
COUNT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Write the numbers from 1 to 200, separated by commas."}
    ]
}


def ask(client: OpenAI, tokens: int = 4) -> str:
    """A short answer."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=tokens
    )
    return answer.choices[0].message.content or ""


class Stream:
    """A long stream, read in a thread, with what became of it."""

    def __init__(
        self, client: OpenAI, max_tokens: int = LENGTH, request: dict[str, Any] = SAY_WORD
    ) -> None:
        self.text = ""
        self.pieces = 0
        self.reason: str | None = None
        self.error: APIError | None = None
        self._client = client
        self._max_tokens = max_tokens
        self._request = request
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for chunk in self._client.chat.completions.create(
                model=MODEL,
                max_tokens=self._max_tokens,
                temperature=0,
                **self._request,
                stream=True,
                extra_body={"ignore_eos": True, "cache": {"mode": "no-store"}},
            ):
                self.text += chunk.choices[0].delta.content or ""
                self.pieces += 1
                self.reason = chunk.choices[0].finish_reason
        except APIError as error:
            self.error = error

    def wait_begun(self) -> "Stream":
        wait_until(lambda: self.pieces > 10 or self.error is not None, 60)
        assert self.error is None
        return self

    def wait_over(self) -> "Stream":
        self._thread.join(90)
        assert not self._thread.is_alive(), "the client was left hanging"
        return self


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def settled(service: LiveService, client: OpenAI) -> None:
    """Nothing is left of an earlier test's kill: the hosts live, and they answer."""

    def hosts_live() -> bool:
        try:
            pids = [service.host_process(key) for key in (CHAT_VERSION, EMBEDDING_VERSION)]
        except ValueError:
            return False
        return all(psutil.pid_exists(pid) for pid in pids)

    wait_until(lambda: hosts_live() and service.is_ready() and _answers(client), 60)
    # The kills of several tests within seconds are no crash loop.
    service.execute("UPDATE models_registry_replica SET crashes = 0")


def wait_for_truth_and_recovery(service: LiveService, client: OpenAI) -> None:
    """Readiness must say that something is missing, then that all is well; and it must be so."""
    wait_until(lambda: not service.is_ready(), 15)
    service.wait_ready(60)
    wait_until(lambda: _answers(client), 30)


def test_host_killed_mid_stream_is_replaced_and_the_stream_goes_on(
    service: LiveService, client: OpenAI
) -> None:
    stream = Stream(client).wait_begun()
    before = service.host_process()
    kill(before)
    wait_for_truth_and_recovery(service, client)
    stream.wait_over()
    assert stream.error is None
    assert stream.reason == "length"
    assert stream.text == WORD * LENGTH
    assert service.host_process() != before


def test_greedy_text_over_a_killed_host_equals_the_undisturbed(
    service: LiveService, client: OpenAI
) -> None:
    undisturbed = Stream(client, request=COUNT).wait_over().text
    assert ", 50, 51, 52, " in undisturbed
    stream = Stream(client, request=COUNT).wait_begun()
    kill(service.host_process())
    assert stream.reason is None
    wait_for_truth_and_recovery(service, client)
    assert stream.wait_over().error is None
    assert stream.text == undisturbed


def test_idle_worker_killed_leaves_the_cluster_able_to_load(
    service: LiveService, client: OpenAI
) -> None:
    main = _main_process(service, "cluster", "models")
    # After another test's kill a host may still be starting, which looks idle as well.
    wait_until(lambda: len(_workers(main, with_model=True)) == 2, 60)
    host = service.host_process()
    idle = _workers(main, with_model=False)
    assert idle
    for worker in idle:
        with contextlib.suppress(ProcessLookupError):  # gone with the one killed before it
            kill(worker.pid)
    kill(host)
    wait_for_truth_and_recovery(service, client)


@pytest.mark.parametrize("name", ["models", "jobs"])
def test_cluster_main_process_killed_is_restarted(
    service: LiveService, client: OpenAI, name: str
) -> None:
    before = _main_process(service, "cluster", name)
    family = [before, *before.children(recursive=True)]
    kill(before.pid)
    wait_until(lambda: not any(process.is_running() for process in family), 15)
    wait_until(lambda: _main_process_or_none(service, "cluster", name), 30)
    service.wait_ready(60)
    wait_until(lambda: _answers(client), 30)


def test_stream_goes_on_when_the_only_cluster_of_hosts_is_restarted(
    service: LiveService, client: OpenAI
) -> None:
    stream = Stream(client).wait_begun()
    before = _main_process(service, "cluster", "models")
    before.terminate()
    wait_until(lambda: not before.is_running(), 15)
    stream.wait_over()
    assert stream.error is None
    assert stream.text == WORD * LENGTH


def test_controller_killed_is_restarted_and_hosts_serve_on(
    service: LiveService, client: OpenAI
) -> None:
    before = _main_process(service, "controller")
    kill(before.pid)
    assert ask(client)
    wait_until(lambda: _main_process_or_none(service, "controller"), 30)
    kill(service.host_process())
    wait_for_truth_and_recovery(service, client)


def test_web_killed_is_restarted(service: LiveService, client: OpenAI) -> None:
    kill(_main_process(service, "manage.py web").pid)
    wait_until(lambda: service.health()[0] == 0, 10)
    service.wait_ready(60)
    wait_until(lambda: _answers(client), 30)
    wait_until(lambda: service.running_sequences() == 0, 60)


def test_redis_killed_recovers_and_the_stream_ends_clearly(
    service: LiveService, client: OpenAI
) -> None:
    stream = Stream(client).wait_begun()
    (server,) = service.processes("valkey-server")
    kill(server.pid)
    stream.wait_over()
    assert stream.reason == "length" or stream.error is not None
    service.wait_ready(60)
    wait_until(lambda: _answers(client), 30)


def test_postgres_killed_recovers_and_streams_go_on(service: LiveService, client: OpenAI) -> None:
    stream = Stream(client).wait_begun()
    postmaster = min(service.processes("bin/postgres"), key=lambda process: process.create_time())
    kill(postmaster.pid)
    stream.wait_over()
    assert stream.error is None
    assert stream.reason == "length"
    service.wait_ready(60)
    wait_until(lambda: _answers(client), 30)


def test_readiness_names_the_dependency_that_is_away(service: LiveService) -> None:
    (server,) = service.processes("valkey-server")
    seen: list[dict] = []

    def told() -> bool:
        status, body = service.health()
        seen.append(body)
        return status == 503 and body["dependencies"]["redis"]["status"] == "down"

    server.suspend()
    try:
        wait_until(told, 20)
    finally:
        server.resume()
    assert "Redis" in seen[-1]["reason"]
    assert service.health("/health")[0] == 200
    service.wait_ready(60)


def test_ctrl_c_leaves_no_process_and_a_second_start_is_ready(live_service: LiveService) -> None:
    live_service.wait_ready()
    assert live_service.stop() == 0
    assert live_service.processes() == []
    live_service.start()
    assert live_service.health()[1]["loaded_models"] == ["all-minilm-l6-v2", MODEL]


def test_up_killed_leaves_no_process(live_service: LiveService) -> None:
    assert live_service.process is not None
    live_service.process.kill()
    live_service.process.wait()
    wait_until(lambda: live_service.processes() == [], 30)
    live_service.start()
    assert live_service.host_process(CHAT_VERSION)


def _answers(client: OpenAI) -> bool:
    try:
        return bool(ask(client))
    except APIError:
        return False


def _main_process(service: LiveService, *words: str) -> psutil.Process:
    process = wait_until(_finder(service, *words), 30)
    assert process is not None
    return process


def _main_process_or_none(service: LiveService, *words: str) -> psutil.Process | None:
    return _finder(service, *words)()


def _finder(service: LiveService, *words: str) -> Callable[[], psutil.Process | None]:
    """The process with these words that the supervisor itself started."""
    assert service.process is not None
    supervisor = service.process.pid

    def find() -> psutil.Process | None:
        for process in psutil.Process(supervisor).children():
            try:
                if all(word in " ".join(process.cmdline()) for word in words):
                    return process
            except psutil.Error:
                continue
        return None

    return find


def _workers(main: psutil.Process, *, with_model: bool) -> list[psutil.Process]:
    """Processes below the cluster's sentinel that have loaded llama.cpp, or have not."""
    found = []
    for process in main.children(recursive=True):
        if process.ppid() == main.pid:
            continue  # the sentinel
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            if ("libllama" in maps) == with_model:
                found.append(process)
    return found
