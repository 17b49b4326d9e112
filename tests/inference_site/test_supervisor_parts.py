"""The parts of the supervisor on their own: decisions, screen, readiness, checks at the start."""

import asyncio
import io
import json
import os
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from inference_site.embedded.files import FileLock
from inference_site.log_filters import OWN_POLL
from inference_site.management.commands.up import example_request
from inference_site.supervisor import supervisor
from inference_site.supervisor.child import Life, restart_delay
from inference_site.supervisor.preflight import PreflightError, check_port, claim_home
from inference_site.supervisor.readiness import ReadinessWatch, describe_missing
from inference_site.supervisor.screen import Screen


def test_first_start_is_at_once() -> None:
    assert restart_delay([], now=100.0) == 0.0


def test_short_lives_double_the_pause_up_to_half_a_minute() -> None:
    clock, history, pauses = 0.0, [], []
    for _ in range(8):
        history.append(Life(clock, clock + 2.0))
        clock += 2.0
        pauses.append(restart_delay(history, clock))
        clock += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_long_life_brings_the_pause_back() -> None:
    short = [Life(0, 2), Life(3, 5), Life(7, 9)]
    assert restart_delay([*short, Life(13, 43)], now=43.0) == 1.0
    assert restart_delay([*short, Life(13, 42.9)], now=42.9) == 8.0
    assert restart_delay([*short, Life(13, 43), Life(44, 45)], now=45.0) == 1.0


def test_time_that_has_passed_counts() -> None:
    history = [Life(0, 2), Life(3, 5)]
    assert restart_delay(history, now=6.5) == 0.5
    assert restart_delay(history, now=60.0) == 0.0


def _screen(directory: Path, **options: Any) -> tuple[Screen, io.StringIO]:
    output = io.StringIO()
    return Screen(Console(file=output), directory, ["web", "models"], **options), output


def test_screen_aligns_names_and_does_not_interpret_markup(tmp_path: Path) -> None:
    screen, output = _screen(tmp_path)
    screen.line("web", b"[bold]not markup[/bold] \x1b[31mred\x1b[0m " + b"x" * 200)
    screen.line("models", b"\xff")
    screen.say("[1] said")
    screen.close()
    assert output.getvalue().splitlines() == [
        "web    │ [bold]not markup[/bold] red " + "x" * 200,
        "models │ \N{REPLACEMENT CHARACTER}",
        "[1] said",
    ]
    assert (tmp_path / "models.log").read_bytes() == b"\xff\n"


def test_screen_colours_names_on_a_terminal_alone(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system="standard")
    screen = Screen(console, tmp_path, ["web"])
    screen.line("web", b"hello")
    screen.close()
    assert output.getvalue() == "\x1b[36mweb │ \x1b[0mhello\n"


def test_large_log_is_rotated_while_written(tmp_path: Path) -> None:
    screen, _ = _screen(tmp_path, largest_log_bytes=10)
    for line in (b"0123456789", b"next"):
        screen.line("web", line)
    screen.close()
    assert (tmp_path / "web.log.1").read_bytes() == b"0123456789\n"
    assert (tmp_path / "web.log").read_bytes() == b"next\n"


def test_missing_names_every_model_that_is_not_ready() -> None:
    replicas = [
        {"version": "a@1", "state": "loading", "progress": 0.5, "reason": None},
        {"version": "b@1", "state": "failed", "progress": 0, "reason": "no memory"},
        {"version": "c@1", "state": "ready", "progress": 1, "reason": None},
    ]
    body = {"reason": "Still loading.", "dependencies": {"hosts": {"replicas": replicas}}}
    expected = "Still loading. [a@1: loading 50%, b@1: failed (no memory)]"
    assert describe_missing(503, body) == expected
    assert describe_missing(500, ["?"]) == "/health/ready answers 500"


@asynccontextmanager
async def _service(answers: list[tuple[int, Any]]) -> AsyncIterator[str]:
    async def ready(request: web.Request) -> web.Response:
        assert request.path_qs == OWN_POLL
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.json_response(body, status=status)

    application = web.Application()
    application.router.add_get("/health/ready", ready)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_watch_shows_what_is_missing_and_calls_once_when_ready(tmp_path: Path) -> None:
    screen, output = _screen(tmp_path)
    calls: list[str] = []
    loading = (503, {"reason": "Models still loading: a@1"})
    async with _service([loading, loading, (200, {})]) as url:
        await ReadinessWatch(url, screen, lambda: calls.append("ready")).run([])
    assert calls == ["ready"]
    assert output.getvalue() == "Waiting: Models still loading: a@1\n"


async def test_watch_warns_once_after_its_patience_and_continues(tmp_path: Path) -> None:
    screen, output = _screen(tmp_path)
    calls: list[str] = []
    loading = (503, {"reason": "Models still loading: a@1"})
    async with _service([loading, loading, loading, (200, {})]) as url:
        watch = ReadinessWatch(url, screen, lambda: calls.append("ready"), patience_seconds=0)
        await watch.run([])
    assert calls == ["ready"]
    assert output.getvalue().count("still trying. Models still loading: a@1.") == 1


async def test_watch_waits_for_a_web_process_that_does_not_answer_yet(tmp_path: Path) -> None:
    screen, output = _screen(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    watch = ReadinessWatch(f"http://127.0.0.1:{port}", screen, lambda: None, patience_seconds=0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.run([]), 0.5)
    assert "the web process does not answer yet" in output.getvalue()


def test_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PreflightError, match=f"Port {port} .* is taken.*INFERENCE_PORT"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(PreflightError, match="Set INFERENCE_HOST"):
        check_port("192.0.2.1", 8085)


def test_second_supervisor_of_a_home_learns_of_the_first(tmp_path: Path) -> None:
    with (
        claim_home(tmp_path),
        pytest.raises(PreflightError, match=f"already being run by process {os.getpid()}"),
    ):
        claim_home(tmp_path)
    claim_home(tmp_path).close()


def test_supervisor_that_has_not_written_its_process_id_is_refused_too(tmp_path: Path) -> None:
    with FileLock(tmp_path / "run" / "up.lock") as lock:
        assert lock.try_exclusive()
        with pytest.raises(PreflightError, match="already being run by a process that has just"):
            claim_home(tmp_path)


def test_example_request_can_be_pasted() -> None:
    words = shlex.split(example_request("http://127.0.0.1:8085", "sk-1"))
    assert words[:2] == ["curl", "http://127.0.0.1:8085/v1/chat/completions"]
    assert "Authorization: Bearer sk-1" in words
    assert json.loads(words[-1])["messages"][0]["role"] == "user"


class _Servers:
    """Counts calls; every third check is needed, and the 31st is the last.

    The fifth ``ensure`` without a check is the last, too.
    """

    def __init__(self) -> None:
        self.looks = self.asked = 0

    def need_check(self) -> bool:
        self.looks += 1
        if self.looks > 30:
            raise EOFError
        return self.looks % 3 == 0

    def ensure(self, _timeout_seconds: float) -> list[str]:
        self.asked += 1
        if not self.looks and self.asked == 5:
            raise EOFError
        return []


@pytest.mark.parametrize(("ask_seconds", "asked"), [(60.0, 11), (0.0, 5)])
async def test_servers_are_asked_when_they_need_a_check_and_regularly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask_seconds: float, asked: int
) -> None:
    monkeypatch.setattr(supervisor, "_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "_PROBE_SECONDS", ask_seconds)
    servers = _Servers()
    running = supervisor.Supervisor([], _screen(tmp_path)[0], servers)
    with pytest.raises(EOFError):
        await running._check_servers()
    assert servers.asked == asked
