"""Starts llama-server from the ``xllamacpp`` wheel beside the service, and stops it."""

import asyncio
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import aiohttp

START_SECONDS = 120.0
STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[3]
_LOG_LINES_SHOWN = 15


class PeerError(Exception):
    """The peer cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """Options of llama-server.

    Args:
        model_path: the GGUF file that the service serves, too.
        threads: CPU threads for prefill and decode.
        parallel: slots, the number of requests served at a time.
        context_tokens: KV cells, shared by all slots.
    """

    model_path: str
    threads: int
    parallel: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A running llama-server."""

    address: str
    pid: int
    system_info: str
    version: str


def model_file(models_dir: Path, model: str) -> Path:
    """Return the GGUF file in a directory whose name begins with a model id.

    Punctuation and case do not count.

    Raises:
        PeerError: there is none, or more than one.
    """

    def letters(text: str) -> str:
        return "".join(character for character in text.lower() if character.isalnum())

    files = sorted(models_dir.rglob("*.gguf"))
    found = [path for path in files if letters(path.stem).startswith(letters(model))]
    if len(found) == 1:
        return found[0]
    seen = ", ".join(str(path.relative_to(models_dir)) for path in found or files) or "none"
    raise PeerError(
        f"{len(found)} files in {models_dir} look like {model!r} (found: {seen}). "
        "Name the file with --peer-model."
    )


def check_options(options: PeerOptions, needed_tokens: int | None) -> None:
    """Refuse a peer that cannot run, or whose context is too small for a fair comparison.

    Args:
        options: of the peer.
        needed_tokens: KV cells that the load may fill; None where unknown.

    Raises:
        PeerError: with advice.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise PeerError(
            "--peer llama-server needs the xllamacpp package: pip install xllamacpp "
            "(or, built for this CPU: pip install --no-binary xllamacpp xllamacpp)."
        )
    if not Path(options.model_path).is_file():
        raise PeerError(f"There is no model file {options.model_path}. Set --peer-model.")
    if needed_tokens is not None and needed_tokens > options.context_tokens:
        raise PeerError(
            f"The load may fill {needed_tokens} tokens of context, more than the "
            f"--peer-context of {options.context_tokens}: raise it."
        )


@asynccontextmanager
async def running_llama_server(options: PeerOptions) -> AsyncIterator[LlamaServer]:
    """Run llama-server in its own process until the block ends.

    Raises:
        PeerError: it ended or was not ready in time; the message ends with its log.
    """
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "inference_site.tools.bench.llama_server_process",
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # Ctrl-C in the terminal must reach only this process, which then stops the peer.
            start_new_session=True,
        )
        try:
            try:
                async with asyncio.timeout(START_SECONDS):
                    server = await _started(process, options)
            except (TimeoutError, PeerError) as error:
                reason = str(error) or f"not ready after {START_SECONDS:.0f} s"
                raise PeerError(f"llama-server did not start: {reason}.\n{_tail(log)}") from error
            yield server
        finally:
            await _stop(process)


async def _started(process: asyncio.subprocess.Process, options: PeerOptions) -> LlamaServer:
    """Send the options, wait for the address and until the server is healthy."""
    if process.stdin is None or process.stdout is None:
        raise PeerError("it has no pipes")
    process.stdin.write(json.dumps(asdict(options)).encode() + b"\n")
    while line := await process.stdout.readline():
        try:
            ready = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line that the C++ side wrote
        server = LlamaServer(
            ready["address"], process.pid, ready["system_info"].strip(), ready["version"]
        )
        if await wait_until_healthy(server.address, START_SECONDS):
            return server
        raise PeerError("its /health never answered 200")
    raise PeerError(f"it ended with status {await process.wait()}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, then kill it."""
    if process.stdin is not None:
        process.stdin.close()
    for insist in (process.terminate, process.kill):
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            insist()
    await process.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES_SHOWN:])


async def wait_until_healthy(base_url: str, timeout_seconds: float) -> bool:
    """Poll ``/health`` until it answers 200; return False when the time is over first."""
    deadline = time.monotonic() + timeout_seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while time.monotonic() < deadline:
            try:
                async with session.get(f"{base_url}/health") as response:
                    if response.status == 200:
                        return True
            except (aiohttp.ClientError, TimeoutError):
                pass  # not started yet
            await asyncio.sleep(0.1)
    return False
