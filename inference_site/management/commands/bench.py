"""``manage.py bench``: measures an OpenAI-compatible server, alone or against a peer."""

import asyncio
import os
import secrets
import shlex
import sys
from argparse import ArgumentParser, BooleanOptionalAction
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from inference_site.tools.bench import report
from inference_site.tools.bench.experiment import Experiment, Outcome, Peer, perform
from inference_site.tools.bench.load import LOADS, Load, LoadError
from inference_site.tools.bench.peer_server import PeerError, PeerOptions, check_options, model_file
from inference_site.tools.bench.progress import LiveProgress
from inference_site.tools.bench.target import Target, TargetError, resolve_target

DEFAULT_MODEL = "smollm2-135m"
LLAMA_SERVER = "llama-server"
FIFO = "fifo"
STILL = "still"
KEY_OPTIONS = ("--api-key", "--peer-api-key")
LOAD_OPTIONS = (
    "concurrency",
    "requests",
    "prompt_tokens",
    "output_tokens",
    "shared_prefix_tokens",
    "prefixes",
    "turns",
    "priority",
    "warmup",
    "endpoint",
    "stream",
    "temperature",
)


class Command(BaseCommand):
    """Send a load and report TTFT, ITL, latency, rates and failures."""

    help = (
        "Load generator for OpenAI-compatible servers. Lengths are in tokens and checked against "
        "the server's usage; every run uses prompts that no server has seen. With --peer it "
        "measures two servers in turn and compares them. Exit status 1 when a request failed."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        _add_target_arguments(parser)
        _add_load_arguments(parser)
        _add_peer_arguments(parser)
        output = parser.add_argument_group("output")
        output.add_argument("--json", metavar="PATH", help="write JSON here; - is standard output")
        output.add_argument("--markdown", metavar="PATH", help="append Markdown here; - as above")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            experiment = _experiment(options)
            progress = LiveProgress(Console(stderr=True))
            outcome = asyncio.run(perform(experiment, progress.watch))
        except (LoadError, TargetError, PeerError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        self._write(outcome, options["json"], options["markdown"])
        if outcome.failure_count:
            raise CommandError(f"{outcome.failure_count} requests failed.")

    def _write(self, outcome: Outcome, json_path: str | None, markdown_path: str | None) -> None:
        """Write the table, and JSON and Markdown where requested.

        The table goes to standard error when JSON or Markdown goes to standard output.
        """
        to_stderr = "-" in (json_path, markdown_path)
        console = Console(stderr=to_stderr)
        with console.capture() as capture:
            console.print(report.terminal(outcome))
        (self.stderr if to_stderr else self.stdout).write(capture.get(), style_func=str)
        if json_path is not None:
            self._write_file(json_path, report.json_bytes(outcome).decode(), "w")
        if markdown_path is not None:
            command = reproducing_command(sys.argv[1:])
            self._write_file(markdown_path, report.markdown(outcome, command), "a")

    def _write_file(self, path: str, text: str, mode: str) -> None:
        if path == "-":
            self.stdout.write(text)
            return
        try:
            with Path(path).open(mode) as file:
                file.write(text)
        except OSError as error:
            raise CommandError(f"The result could not be written to {path}: {error}") from error


def reproducing_command(arguments: list[str]) -> str:
    """Return the command line for a report, without its keys."""
    shown: list[str] = []
    for argument in arguments:
        if shown and shown[-1] in KEY_OPTIONS:
            argument = "KEY"
        option, equals, _ = argument.partition("=")
        shown.append(f"{option}=KEY" if equals and option in KEY_OPTIONS else argument)
    return shlex.join(["python", "manage.py", *shown])


def _add_target_arguments(parser: ArgumentParser) -> None:
    server = parser.add_argument_group("server (default: the one that `make run` started)")
    server.add_argument("--base-url", help="address of the API, with or without /v1")
    server.add_argument("--api-key", help="bearer token")
    server.add_argument("--model", default=DEFAULT_MODEL)
    server.add_argument("--name", help="how tables call it; default: Brigade, or the address")
    server.add_argument("--timeout", type=float, default=600.0, help="seconds for one request")


def _add_load_arguments(parser: ArgumentParser) -> None:
    load = parser.add_argument_group("load (options given here change the named load)")
    load.add_argument("--load", choices=sorted(LOADS), help="a named load")
    load.add_argument("--concurrency", type=int, help="conversations held at a time")
    load.add_argument("--arrival-rate", type=float, help="open loop: mean arrivals a second")
    load.add_argument("--requests", type=int)
    load.add_argument("--prompt-tokens", type=int, help="length of the unshared part")
    load.add_argument("--output-tokens", type=int)
    load.add_argument("--shared-prefix-tokens", type=int)
    load.add_argument("--prefixes", type=int, help="number of different shared prefixes")
    load.add_argument("--turns", type=int, help="user messages of each conversation")
    load.add_argument("--priority", type=int, choices=(1, 2, 3), help="1 low, 2 normal, 3 high")
    load.add_argument("--warmup", type=int, help="requests sent first and not measured")
    load.add_argument("--endpoint", choices=("chat", "completions"))
    load.add_argument("--stream", action=BooleanOptionalAction, default=None)
    load.add_argument("--temperature", type=float, help="default 0, greedy")
    load.add_argument("--seed", type=int, default=0)
    load.add_argument("--nonce", help="repeat the prompts of an earlier run (then not cold)")


def _add_peer_arguments(parser: ArgumentParser) -> None:
    peer = parser.add_argument_group("comparison")
    peer.add_argument(
        "--peer",
        metavar=f"URL|{LLAMA_SERVER}|{FIFO}|{STILL}",
        help=f"the other server; {LLAMA_SERVER}: started here from the xllamacpp wheel; {FIFO}: "
        f"the same server, with all requests at one priority; {STILL}: the same server, while "
        "no other models come and go",
    )
    peer.add_argument("--pairs", type=int, default=5)
    peer.add_argument("--peer-api-key", default="")
    peer.add_argument("--peer-name", help="how tables call the peer")
    peer.add_argument("--peer-model", help=f"GGUF file of {LLAMA_SERVER}; default: the service's")
    peer.add_argument("--peer-threads", type=int, default=os.cpu_count() or 2)
    peer.add_argument("--peer-parallel", type=int, help="slots; default: as many as users")
    peer.add_argument("--peer-context", type=int, default=16_384, help="tokens, all slots together")


def _experiment(options: dict[str, Any]) -> Experiment:
    load = _load(options)
    target = resolve_target(
        settings.BRIGADE_HOME,
        base_url=options["base_url"],
        api_key=options["api_key"],
        model=options["model"],
        name=options["name"],
    )
    for option in ("pairs", "timeout", "peer_threads", "peer_context"):
        if options[option] <= 0:
            raise CommandError(f"--{option.replace('_', '-')} must be more than 0.")
    peer = _peer(options, load, target)
    if peer is not None and peer.target.name == target.name:
        raise CommandError(f"Both servers are called {target.name!r}: set --peer-name.")
    return Experiment(
        target,
        load,
        options["seed"],
        options["nonce"] or secrets.token_hex(4),
        options["timeout"],
        peer,
        options["pairs"],
    )


def _load(options: dict[str, Any]) -> Load:
    """Return the named load, or the default one, with the given options."""
    changes = {name: options[name] for name in LOAD_OPTIONS if options[name] is not None}
    if options["arrival_rate"] is not None:
        changes["arrival_rate_per_second"] = options["arrival_rate"]
        changes.setdefault("concurrency", None)
    elif "concurrency" in changes:
        changes["arrival_rate_per_second"] = None
    if options["load"] is None:
        return replace(Load(), **changes)
    if changes:
        changes["name"] = f"{options['load']}, changed"
    return replace(LOADS[options["load"]], **changes)


def _peer(options: dict[str, Any], load: Load, target: Target) -> Peer | None:
    """Return the peer of the options, checked; None without one."""
    choice: str | None = options["peer"]
    if choice is None:
        return None
    if choice == FIFO:
        name = options["peer_name"] or "one FIFO level"
        return Peer(replace(target, name=name, sends_priority=False))
    if choice == STILL:
        name = options["peer_name"] or "nothing loaded"
        return Peer(replace(target, name=name, swaps_models=False))
    if choice != LLAMA_SERVER:
        if not choice.startswith(("http://", "https://")):
            raise CommandError(
                f"--peer is a URL, {LLAMA_SERVER}, {FIFO} or {STILL}, not {choice!r}."
            )
        name = options["peer_name"] or choice
        return Peer(Target(name, choice, options["peer_api_key"], target.model, False, False))
    path = options["peer_model"] or model_file(settings.INFERENCE.models_dir, target.model)
    users = (load.concurrency or 8) + (load.background.concurrency if load.background else 0)
    peer_options = PeerOptions(
        str(Path(path).resolve()),
        options["peer_threads"],
        options["peer_parallel"] or users,
        options["peer_context"],
    )
    check_options(peer_options, load.peak_tokens)
    name = options["peer_name"] or LLAMA_SERVER
    return Peer(
        Target(name, "", "", target.model, sends_priority=False, swaps_models=False), peer_options
    )
