import asyncio
import io
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from aiohttp import web
from django.core.management import call_command
from django.core.management.base import CommandError

from inference_site.tools.evaluation import runner

VERSION = "tiny@one"


class Service:
    """A scripted service: modes are right, and others as ``right`` says by the arm's name."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.refusals: list[int] = []
        self.right = {"single": False, "critique": True, "panel": False}
        self.base_url = ""

    def arm(self, body):
        if "Several answers" in body["messages"][0]["content"]:
            return "placebo"
        named = body.get("orchestration_mode") or (body["model"] != "tiny" and body["model"])
        return named or ("panel" if "n" in body else f"single{body.get('temperature', '')}")

    async def model(self, request):
        return web.json_response({"id": "tiny", "version": VERSION})

    async def answer(self, request):
        body = await request.json()
        self.bodies.append(body)
        if self.refusals:
            return web.json_response({"error": {"message": "no"}}, status=self.refusals.pop())
        arm, count = self.arm(body), body.get("n", 1)
        gold = re.search(r"\d+", body["messages"][0]["content"])[0]
        text = f"It is {gold}." if self.right.get(arm) else "It is 0."
        reply = {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}] * count,
            "usage": {"prompt_tokens": 5, "completion_tokens": 10 * count},
        }
        if arm == "critique":
            reply["usage"]["completion_tokens"] = 35
            reply["orchestration"] = {"mode": arm, "steps": [{"version": VERSION}]}
        return web.json_response(reply)


@contextmanager
def serving():
    service, loop, ready = Service(), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve():
        app = web.Application()
        app.router.add_get("/v1/models/tiny", service.model)
        app.router.add_post("/v1/chat/completions", service.answer)
        served = web.AppRunner(app)
        await served.setup()
        await web.TCPSite(served, "127.0.0.1", 0).start()
        service.base_url = f"http://127.0.0.1:{served.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await served.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield service
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(runner, "_PAUSE_SECONDS", 0)
    with serving() as running:
        yield running


@pytest.fixture
def measure(service, tmp_path):
    """Runs the command on ten items; returns its table."""
    check = {"kind": "number"}
    items = [
        {
            "id": f"i{n}",
            "group": "sums",
            "prompt": f"Say {n}.",
            "fields": {"max_tokens": 9},
            "check": check | {"gold": str(n)},
        }
        for n in range(11, 21)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    def run(*arguments, modes=("critique",), votes=4):
        out = io.StringIO()
        given = ["--model", "tiny", "--base-url", service.base_url, "--api-key", "k"]
        given += ["--items", str(tmp_path / "items.jsonl"), "--votes", str(votes)]
        given += ["--modes", *modes] if modes else []
        call_command("eval_modes", *given, *arguments, stdout=out)
        return out.getvalue()

    return run


def row(table, name):
    """The cells of an arm."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_eval_modes_says_that_a_mode_pays(measure):
    table = measure()
    assert VERSION in table
    single, mode = row(table, "single"), row(table, "critique")
    assert single[1:3] == ["10", "0 [0, 28]"]
    assert mode[1:7] == [
        *("10", "100 [72, 100]", "+100.0", "10 : 0", "0.002", "+100.0 (vote of 4)")
    ]
    assert mode[7] == "3.5 \xd7"
    assert mode[-1] == "**pays**"


def test_eval_modes_does_not_praise_a_mode_that_a_vote_equals(measure, service):
    service.right["panel"] = True
    assert row(measure(), "critique")[-1] == "**not shown**"


def test_eval_modes_says_that_a_mode_costs(measure, service):
    service.right |= {"single": True, "critique": False}
    assert row(measure(), "critique")[-1] == "**costs**"


def test_eval_modes_marks_a_vote_with_fewer_tokens(measure):
    assert row(measure(votes=3), "critique")[6] == "+100.0 (vote of 3\\*)"


def test_eval_modes_leaves_out_arms_without_answers(measure):
    table = measure("--limit", "1")
    assert "| single" in table
    assert "placebo |" not in table


def test_eval_modes_asks_every_arm_with_seed_and_fields(measure, service):
    measure("--limit", "2", "--presets", "L4", "--seed", "7")
    arms = Counter(service.arm(body) for body in service.bodies)
    expected = ("single", "single0", "panel", "critique", "L4", "placebo")
    assert arms == dict.fromkeys(expected, 2)
    assert {(body["seed"], body["max_tokens"]) for body in service.bodies} == {(7, 9)}
    placebo = next(body for body in service.bodies if service.arm(body) == "placebo")
    assert placebo["messages"][0]["content"].count("It is 0.") == 3


def test_eval_modes_measures_all_modes_without_a_choice(measure, service):
    measure("--limit", "1", modes=())
    modes = {body.get("orchestration_mode") for body in service.bodies} - {None}
    assert modes == {"critique", "debate", "ensemble", "pipeline"}


def test_eval_modes_goes_on_from_its_results(measure, service, tmp_path):
    path, output = tmp_path / "results.jsonl", tmp_path / "table.md"
    measure("--limit", "4", "--results", str(path))
    asked = len(service.bodies)
    table = measure("--results", str(path), "--output", str(output))
    assert output.read_text() == table
    twice = Counter(json.dumps(body, sort_keys=True) for body in service.bodies)
    assert set(twice.values()) == {1}
    again = len(service.bodies)
    assert again > asked
    assert row(measure("--results", str(path)), "critique") == row(table, "critique")
    assert len(service.bodies) == again


def test_eval_modes_does_not_mix_results_of_another_seed(measure, service, tmp_path):
    path = tmp_path / "results.jsonl"
    measure("--limit", "1", "--results", str(path))
    service.right["single"] = True
    table = measure("--limit", "1", "--results", str(path), "--seed", "2")
    assert row(table, "single")[2] == "100 [21, 100]"
    assert "seed 2" in table


def test_eval_modes_refuses_a_file_that_holds_no_results(measure, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("no\n")
    with pytest.raises(CommandError, match=r"results\.jsonl"):
        measure("--results", str(path))


def test_eval_modes_asks_again_when_the_service_is_busy(measure, service):
    service.refusals = [503, 429]
    table = measure("--limit", "1")
    assert "failed" not in table
    assert len(service.bodies) == 4 + 2


def test_eval_modes_counts_refused_answers_as_wrong(measure, service, tmp_path):
    service.right = dict.fromkeys(("single", "critique", "single0", "panel"), True)
    service.refusals = [400] * 4
    path = tmp_path / "results.jsonl"
    table = measure("--limit", "1", "--results", str(path))
    assert row(table, "critique")[1:3] == ["1 (1 failed)", "0 [0, 79]"]
    assert row(measure("--limit", "1", "--results", str(path)), "critique")[1] == "1"


def test_eval_modes_says_when_no_service_is_there(measure):
    with pytest.raises(CommandError, match=r"127\.0\.0\.1:9"):
        measure("--base-url", "http://127.0.0.1:9")


def test_eval_modes_refuses_numbers_below_one(measure):
    with pytest.raises(CommandError, match="--limit must be more than 0"):
        measure("--limit", "0")
