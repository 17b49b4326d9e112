import io
import json
import os
import signal
import sys
from asyncio import Event

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.inference_site.tools.scripted_sse_server import (
    Status,
    ending,
    serving_in_thread,
    sse,
    text,
    three_words,
)


class Terminal(io.StringIO):
    """Standard input that claims to be a terminal."""

    def isatty(self):
        return True


class StoppingReader(io.StringIO):
    """Standard output of a user who presses Ctrl-C at the word "half"."""

    def write(self, piece):
        written = super().write(piece)
        if "half" in piece:
            os.kill(os.getpid(), signal.SIGINT)
        return written


@pytest.fixture(autouse=True)
def no_service(settings, tmp_path):
    settings.BRIGADE_HOME = tmp_path


@pytest.fixture(autouse=True)
def minds_ctrl_c():
    """Shells start background processes with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def typed(monkeypatch):
    """Type lines at the prompt, then press Ctrl-D."""

    def type_lines(*lines):
        waiting = iter(lines)

        def read_line(prompt):
            line = next(waiting, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr("builtins.input", read_line)

    return type_lines


def chat(server, *arguments):
    """Runs the command; returns what it wrote to standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command("chat", "--base-url", server.base_url, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def said(body):
    return [(message["role"], message["content"]) for message in body["messages"]]


def test_one_message_prints_the_answer_alone():
    with serving_in_thread(three_words) as server:
        out, _ = chat(
            server, "--message", "hi", "--system", "Be brief.", "--max-tokens", "9", "--model", "m"
        )
    assert out == "one two three\n"
    assert said(server.bodies[0]) == [("system", "Be brief."), ("user", "hi")]
    assert (server.bodies[0]["max_tokens"], server.bodies[0]["model"]) == (9, "m")
    assert "temperature" not in server.bodies[0]


def test_piped_text_is_the_message(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines"))
    with serving_in_thread(three_words) as server:
        chat(server, "--temperature", "0.5")
    assert said(server.bodies[0]) == [("user", "two\nlines")]
    assert server.bodies[0]["temperature"] == 0.5


def test_empty_message_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    with serving_in_thread(three_words) as server, pytest.raises(CommandError, match="empty"):
        chat(server)


def test_conversation_keeps_what_was_said_until_reset(typed):
    typed("first", "second", "/reset", "third")
    with serving_in_thread(three_words) as server:
        chat(server)
    first = ("user", "first")
    answer = ("assistant", "one two three")
    assert [said(body) for body in server.bodies] == [
        [first],
        [first, answer, ("user", "second")],
        [("user", "third")],
    ]


def test_commands_change_the_model_show_figures_and_leave(typed):
    typed("/stats", "/model other", "hi", "/stats", "/nonsense", "", "/quit", "never said")
    with serving_in_thread(three_words) as server:
        out, _ = chat(server)
    assert [body["model"] for body in server.bodies] == ["other"]
    assert "Nothing has been answered yet." in out
    assert "prompt 10 tokens (4 cached), completion 3 tokens" in out
    assert "Commands: /reset" in out


def test_ctrl_c_at_the_prompt_does_not_leave(typed):
    typed(KeyboardInterrupt(), "hi")
    with serving_in_thread(three_words) as server:
        chat(server)
    assert len(server.bodies) == 1


def test_ctrl_c_stops_the_answer_at_the_server_and_keeps_the_half_said(typed):
    async def script(body):
        if len(body["messages"]) == 1:
            yield text("half ")
            await Event().wait()
        async for step in three_words(body):
            yield step

    typed("first", "second")
    out = StoppingReader()
    with serving_in_thread(script) as server:
        call_command("chat", "--base-url", server.base_url, stdout=out)
        assert server.left.wait(5)
    assert "[stopped]" in out.getvalue()
    assert said(server.bodies[1]) == [
        ("user", "first"),
        ("assistant", "half "),
        ("user", "second"),
    ]


def test_failure_is_shown_and_the_question_dropped(typed):
    async def script(body):
        if body["messages"][-1]["content"] == "bad":
            yield text("half")
            yield sse({"error": {"message": "The host died.", "code": "host_lost"}})
        else:
            yield text("fine") + ending(3, 1)

    typed("bad", "good")
    with serving_in_thread(script) as server:
        out, err = chat(server)
    assert "The host died. (stream_error host_lost)" in err
    assert said(server.bodies[1]) == [("user", "good")]
    assert "fine" in out


def test_failed_single_message_is_a_failed_command():
    async def script(body):
        yield Status(401, {"error": {"message": "Unknown key.", "code": "invalid_api_key"}})

    with serving_in_thread(script) as server, pytest.raises(CommandError, match="--api-key"):
        chat(server, "--message", "hi")


def test_service_that_is_not_running_is_reported_with_advice(tmp_path):
    with pytest.raises(CommandError, match="make run"):
        call_command("chat", "--message", "hi")
    stored = {"base_url": "http://127.0.0.1:9", "api_key": "k"}
    (tmp_path / "first_run.json").write_text(json.dumps(stored))
    with pytest.raises(CommandError, match=r"Nothing answers at http://127.0.0.1:9\. Start it"):
        call_command("chat", "--message", "hi")


def test_answer_cannot_command_the_terminal():
    async def script(body):
        yield text("a\x1b[2Jb\tc\x9bd\n") + ending(3, 1)

    with serving_in_thread(script) as server:
        out, _ = chat(server, "--message", "hi")
    assert out == "a[2Jb\tcd\n\n"


def test_phases_of_several_models_are_beside_the_answer():
    def event(**facts):
        return sse({"choices": [{"index": 0, "delta": {}}], "orchestration": facts})

    async def script(body):
        call = {"phase": "critique", "role": "critic", "model": "m\x1b]0;", "round": 1, "v": 1}
        yield event(event="step_start", **call) + event(event="step_end", step="c1")
        yield event(event="notice", v=1, code="compressed", step="v1", before=20)
        yield text("Rain falls.")
        facts = {"confidence": 0.667, "confidence_method": "score of the critic"}
        yield event(steps=[{}, {}, {}], **facts, partial=True, error="no text")
        yield ending(1, 1)

    with serving_in_thread(script) as server:
        out, err = chat(server, "--message", "hi")
    assert out == "Rain falls.\n"
    assert err.splitlines() == [
        "critique · critic · m]0;",
        "compressed step=v1 before=20",
        "3 calls, confidence 0.67 (score of the critic), the answer is partial: no text",
    ]
