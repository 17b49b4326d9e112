import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import aiohttp
import pytest

from inference_site.tools.bench import machine, peer_server
from inference_site.tools.bench.peer_server import (
    PeerError,
    PeerOptions,
    check_options,
    model_file,
    running_llama_server,
)
from tests.waiting import wait_until

# Stands in for the wheel: the same names, and a server that says what it was given.
FAKE_WHEEL = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
__version__ = "0.0"
def get_system_info():
    return "CPU : FAKE = 1 | "
def CommonParams():
    return SimpleNamespace(
        model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace()
    )
class Server:
    def __init__(self, params):
        if params.model.path.endswith("broken.gguf"):
            sys.exit("the file is broken")
        given = dict(vars(params), model=params.model.path, threads=params.cpuparams.n_threads)
        given["batch_threads"] = given.pop("cpuparams_batch").n_threads
        del given["cpuparams"]
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(given).encode())
        server = HTTPServer((params.hostnames[0], params.port), Handler)
        self.listening_address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print("a line of the C++ side", flush=True)
"""


@pytest.fixture
def fake_wheel(tmp_path, monkeypatch):
    (tmp_path / "xllamacpp.py").write_text(FAKE_WHEEL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def options(path="/m.gguf"):
    return PeerOptions(path, threads=3, parallel=4, context_tokens=2048)


def process_is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def health(address):
    async with aiohttp.ClientSession() as session, session.get(f"{address}/health") as response:
        return json.loads(await response.read())


def test_peer_runs_with_its_options_and_is_stopped_after(fake_wheel):
    async def run():
        async with running_llama_server(options()) as server:
            return server, await health(server.address)

    server, given = asyncio.run(run())
    assert given == {
        "model": "/m.gguf",
        "hostnames": ["127.0.0.1"],
        "port": 0,
        "n_ctx": 2048,
        "n_parallel": 4,
        "kv_unified": True,
        "threads": 3,
        "batch_threads": 3,
    }
    assert server.system_info == "CPU : FAKE = 1 |"
    assert process_is_gone(server.pid)


def test_peer_ends_with_the_process_that_started_it(fake_wheel):
    with subprocess.Popen(
        [sys.executable, "-m", "inference_site.tools.bench.llama_server_process"],
        cwd=Path(peer_server.__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(asdict(options())).encode() + b"\n")
            process.stdin.flush()
            assert b"C++" in process.stdout.readline()
            assert b"address" in process.stdout.readline()
            process.stdin.close()  # what the kernel does when the other end is killed
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_peer_is_stopped_when_the_measurement_fails(fake_wheel):
    pids = []

    async def run():
        async with running_llama_server(options()) as server:
            pids.append(server.pid)
            raise RuntimeError("the measurement failed")

    with pytest.raises(RuntimeError, match="measurement failed"):
        asyncio.run(run())
    assert process_is_gone(pids[0])


def test_peer_that_does_not_start_shows_its_log(fake_wheel):
    async def run():
        async with running_llama_server(options("/broken.gguf")):
            pass

    with pytest.raises(PeerError, match=r"ended with status 1[\s\S]*the file is broken"):
        asyncio.run(run())


def test_missing_wheel_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PeerError, match="pip install xllamacpp"):
        check_options(options(), None)


def test_missing_file_and_too_small_context_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_server.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(PeerError, match="--peer-model"):
        check_options(options(str(tmp_path / "none.gguf")), None)
    file = tmp_path / "m.gguf"
    file.touch()
    with pytest.raises(PeerError, match="4096 tokens"):
        check_options(options(str(file)), 4096)
    check_options(options(str(file)), 2048)


def test_model_file_is_found_by_model_id(tmp_path):
    (tmp_path / "a").mkdir()
    wanted = tmp_path / "a" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    wanted.touch()
    (tmp_path / "all-minilm-l6-v2.f16.gguf").touch()
    assert model_file(tmp_path, "smollm2-135m") == wanted


def test_model_file_that_is_not_one_is_refused_with_the_choice(tmp_path):
    with pytest.raises(PeerError, match="0 files"):
        model_file(tmp_path, "m")
    (tmp_path / "m-q4.gguf").touch()
    (tmp_path / "m-q8.gguf").touch()
    with pytest.raises(PeerError, match=r"m-q4\.gguf, m-q8\.gguf"):
        model_file(tmp_path, "m")


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs xllamacpp")
def test_real_llama_server_answers_and_does_not_spin_when_idle(settings):
    try:
        path = model_file(Path(settings.INFERENCE.models_dir), "smollm2-135m")
    except PeerError as error:
        pytest.skip(str(error))

    readings: list[float] = []
    server_pids: list[int] = []

    def idle():
        readings.append(machine.process_cpu_seconds(server_pids[0]) or 0.0)
        return len(readings) > 1 and readings[-1] - readings[-2] < 0.02

    async def run():
        async with running_llama_server(PeerOptions(str(path), 2, 2, 2048)) as server:
            server_pids.append(server.pid)
            await asyncio.to_thread(wait_until, idle, 10, 0.5)
            return await health(server.address)

    assert asyncio.run(run()) == {"status": "ok"}
    assert process_is_gone(server_pids[0])
