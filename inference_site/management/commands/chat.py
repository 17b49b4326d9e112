"""``manage.py chat``: a conversation with the service from a terminal."""

import asyncio
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference_site.tools.bench.client import CompletionClient, CompletionRequest, open_session
from inference_site.tools.bench.observation import Failure, Observation
from inference_site.tools.bench.target import Target, TargetError, resolve_target

DEFAULT_MODEL = "smollm2-135m"
TIMEOUT_SECONDS = 600.0
COMMANDS = "/reset  /model NAME  /stats  /quit"
# A model's text must not move the cursor or set the terminal's title.
_CONTROL_CHARACTERS = dict.fromkeys({*range(32), *range(127, 160)} - {ord("\n"), ord("\t")})


@dataclass
class Chat:
    """A conversation; None leaves ``temperature`` and ``max_tokens`` to the server."""

    target: Target
    write: Callable[[str], None]
    system: str
    temperature: float | None
    max_tokens: int | None
    note: Callable[[str], None]
    last: Observation | None = None

    def __post_init__(self) -> None:
        self._messages: list[dict[str, str]] = []
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession = self._runner.run(self._open_session())

    async def _open_session(self) -> aiohttp.ClientSession:
        return open_session(TIMEOUT_SECONDS)

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()

    def reset(self) -> None:
        self._messages.clear()

    def ask(self, text: str) -> Failure | None:
        """Send a message and show the answer as it streams; return why it is not complete.

        Ctrl-C closes the stream, which stops the generation at the server, and is raised again; the
        conversation keeps the text received so far. After a failure it drops the message.
        """
        said: list[str] = []
        question = {"role": "user", "content": text}
        self._summary: dict[str, Any] = {}
        self.last = Observation(time.perf_counter())
        try:
            self._runner.run(self._answer(question, self.last, said))
        except KeyboardInterrupt:
            self._remember(question, said)
            raise
        if self.last.failure is None:
            self._remember(question, said)
        self.write("\n")
        if self._summary:
            self.note(describe_summary(self._summary))
        return self.last.failure

    async def _answer(
        self, question: dict[str, str], observation: Observation, said: list[str]
    ) -> None:
        def show(piece: str) -> None:
            said.append(piece)
            self.write(piece.translate(_CONTROL_CHARACTERS))

        system = [{"role": "system", "content": self.system}] if self.system else []
        request = CompletionRequest(
            [*system, *self._messages, question], self.max_tokens, self.temperature
        )
        client = CompletionClient(self._session, self.target, on_event=self._hear)
        await client.complete(request, observation, show)

    def _hear(self, event: dict[str, Any]) -> None:
        match event:
            case {"event": "step_start", "phase": phase, "role": role, "model": model}:
                self.note(f"{phase} · {role} · {model}")
            case {"event": "notice", "v": _, "code": code, **facts}:
                self.note(" ".join([code, *(f"{name}={value}" for name, value in facts.items())]))
            case {"steps": _}:
                self._summary = event

    def _remember(self, question: dict[str, str], said: list[str]) -> None:
        if said:
            self._messages += [question, {"role": "assistant", "content": "".join(said)}]


def describe_failure(failure: Failure, target: Target) -> str:
    if failure.kind == "connect":
        return f"Nothing answers at {target.base_url}. Start it with `make run`."
    if failure.kind.startswith("http_401"):
        return f"{target.base_url} refused the key: {failure.message} Give another with --api-key."
    return f"{failure.message} ({failure.kind})"


def describe_summary(summary: dict[str, Any]) -> str:
    """``3 calls, confidence 0.67 (score of the critic)``: a run of several models."""
    parts = [f"{len(summary['steps'])} calls"]
    if (confidence := summary.get("confidence")) is not None:
        parts.append(f"confidence {confidence:.2f} ({summary.get('confidence_method')})")
    if summary.get("partial"):
        parts.append(f"the answer is partial: {summary.get('error')}")
    return ", ".join(parts)


def describe_statistics(last: Observation | None) -> str:
    if last is None or last.ttft_seconds is None:
        return "Nothing has been answered yet."
    parts = [f"TTFT {last.ttft_seconds * 1000:.0f} ms"]
    if last.streaming_tokens_per_second is not None:
        parts.append(f"then {last.streaming_tokens_per_second:.1f} tok/s")
    if last.usage is not None:
        usage = last.usage
        cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
        parts.append(f"prompt {usage.prompt_tokens} tokens{cached}")
        parts.append(f"completion {usage.completion_tokens} tokens")
    else:
        parts.append("no usage: the answer was cut short, or the server sends none")
    return ", ".join(parts)


class Command(BaseCommand):
    help = f"Talk to the service. Commands: {COMMANDS}. Ctrl-C stops an answer, Ctrl-D leaves."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--base-url", help="default: the service that `make run` started")
        parser.add_argument("--api-key")
        parser.add_argument("--model", default=DEFAULT_MODEL)
        parser.add_argument("--system", default="", help="system message")
        parser.add_argument("--temperature", type=float)
        parser.add_argument("--max-tokens", type=int)
        parser.add_argument("--message", help="ask this alone, print the answer and end")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            target = resolve_target(
                settings.BRIGADE_HOME,
                base_url=options["base_url"],
                api_key=options["api_key"],
                model=options["model"],
            )
        except TargetError as error:
            raise CommandError(str(error)) from error
        parameters = (options["system"], options["temperature"], options["max_tokens"])
        chat = Chat(target, self._write, *parameters, self._note)
        try:
            if options["message"] is not None or not sys.stdin.isatty():
                self._answer_once(chat, options["message"] or sys.stdin.read())
            else:
                self._converse(chat)
        finally:
            chat.close()

    def _write(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()

    def _note(self, text: str) -> None:
        """Write a dim line beside the answer: standard output has the answer alone."""
        dim = "\x1b[2m{}\x1b[0m" if self.stderr.isatty() else "{}"
        self.stderr.write(dim.format(text.translate(_CONTROL_CHARACTERS)), str)

    def _answer_once(self, chat: Chat, message: str) -> None:
        if not message.strip():
            raise CommandError("There is nothing to ask: the message is empty.")
        try:
            failure = chat.ask(message)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        if failure is not None:
            raise CommandError(describe_failure(failure, chat.target))

    def _converse(self, chat: Chat) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() history and editing)
        self._write(f"{chat.target.model} at {chat.target.base_url}    {COMMANDS}\n")
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                self._write("\n")
                return
            except KeyboardInterrupt:
                self._write("\n")
                continue
            if line == "/quit":
                return
            if line.startswith("/"):
                self._write(self._obey(chat, line) + "\n")
            elif line:
                self._answer(chat, line)

    def _answer(self, chat: Chat, text: str) -> None:
        try:
            failure = chat.ask(text)
        except KeyboardInterrupt:
            self._write("\n[stopped]\n")
            return
        if failure is not None:
            self.stderr.write(describe_failure(failure, chat.target))

    def _obey(self, chat: Chat, line: str) -> str:
        command, _, argument = line.partition(" ")
        if command == "/reset" and not argument:
            chat.reset()
            return "The conversation was cleared."
        if command == "/model" and argument.strip():
            chat.target = replace(chat.target, model=argument.strip())
            return f"The model is now {chat.target.model}."
        if command == "/stats" and not argument:
            return describe_statistics(chat.last)
        return f"Commands: {COMMANDS}"
