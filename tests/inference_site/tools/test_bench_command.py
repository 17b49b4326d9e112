import io
import json
import sys

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from inference_site.management.commands.bench import reproducing_command
from inference_site.tools.bench import experiment
from tests.inference_site.tools.scripted_sse_server import Status, serving_in_thread, three_words

SMALL = ("--requests", "4", "--concurrency", "2", "--warmup", "1")


@pytest.fixture(autouse=True)
def quick(monkeypatch, settings, tmp_path):
    """No look at the machine before a run, and no service of this machine."""
    monkeypatch.setattr(experiment, "QUIET_SECONDS", 0)
    settings.BRIGADE_HOME = tmp_path


def bench(*arguments):
    """Runs the command; returns what it wrote to standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command("bench", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_bench_prints_a_table():
    with serving_in_thread(three_words) as server:
        out, _ = bench("--base-url", server.base_url, *SMALL)
    assert "TTFT" in out
    assert "4 of 4 requests" in out
    assert len(server.bodies) == 5


def test_bench_takes_address_and_key_of_the_first_run(tmp_path):
    with serving_in_thread(three_words) as server:
        stored = {"base_url": server.base_url, "api_key": "stored"}
        (tmp_path / "first_run.json").write_text(json.dumps(stored))
        bench(*SMALL)
    assert server.headers[0]["Authorization"] == "Bearer stored"


def test_bench_writes_json_alone_to_standard_output():
    with serving_in_thread(three_words) as server:
        out, err = bench("--base-url", server.base_url, *SMALL, "--json", "-")
    written = json.loads(out)
    assert written["run"]["completed"] == 4
    assert written["load"]["concurrency"] == 2
    assert "TTFT" in err


def test_bench_repeats_prompts_only_for_the_same_seed_and_nonce():
    def openings(*arguments):
        with serving_in_thread(three_words) as server:
            bench("--base-url", server.base_url, *SMALL, *arguments)
        return {body["messages"][0]["content"] for body in server.bodies}

    first = openings("--nonce", "n")
    assert openings("--nonce", "n") == first
    assert not openings("--nonce", "n", "--seed", "1") & first
    assert not openings() & first


def test_bench_fails_when_a_request_failed_and_still_reports():
    async def script(body):
        yield Status(503, {"error": {"message": "The queue is full.", "code": "model_busy"}})

    out = io.StringIO()
    with serving_in_thread(script) as server, pytest.raises(CommandError, match="5 requests"):
        call_command("bench", "--base-url", server.base_url, *SMALL, stdout=out)
    assert "4 x http_503 model_busy: The queue is full." in out.getvalue()


def test_bench_takes_a_named_load_and_changes_to_it():
    with serving_in_thread(three_words) as server:
        out, _ = bench(
            "--base-url", server.base_url, "--load", "personas", "--requests", "8", "--json", "-"
        )
    load = json.loads(out)["load"]
    assert (load["name"], load["requests"], load["prefixes"]) == ("personas, changed", 8, 4)


def test_bench_goes_over_to_an_open_loop_with_an_arrival_rate():
    async def script(body):
        yield Status(200, {"choices": [{"text": "x", "finish_reason": "stop"}]})

    with serving_in_thread(script) as server:
        out, _ = bench(
            *("--base-url", server.base_url, "--arrival-rate", "500", "--requests", "3"),
            *("--no-stream", "--endpoint", "completions", "--json", "-"),
        )
    load = json.loads(out)["load"]
    assert (load["concurrency"], load["arrival_rate_per_second"]) == (None, 500.0)
    assert not any("stream" in body for body in server.bodies)


def test_bench_compares_two_servers_in_pairs_with_the_same_prompts(tmp_path):
    order = []

    def recording(name):
        async def script(body):
            order.append(name)
            async for step in three_words(body):
                yield step

        return script

    markdown = tmp_path / "performance.md"
    with serving_in_thread(recording("a")) as ours, serving_in_thread(recording("b")) as peer:
        out, _ = bench(
            *("--base-url", ours.base_url, "--name", "ours", "--peer", peer.base_url),
            *("--pairs", "3", "--requests", "2", "--concurrency", "1", "--warmup", "0"),
            *("--markdown", str(markdown), "--json", "-", "--priority", "3"),
        )
    assert "".join(order) == "aabb" + "bbaa" + "aabb"
    assert [body["messages"] for body in ours.bodies] == [body["messages"] for body in peer.bodies]
    assert ours.bodies[0]["priority"] == 3
    assert "priority" not in peer.bodies[0]
    assert [item["pairs"] for item in json.loads(out)["comparison"]][:3] == [3, 3, 3]
    assert "| output tok/s |" in markdown.read_text()


def test_bench_compares_a_server_with_itself_at_one_priority():
    with serving_in_thread(three_words) as server:
        out, _ = bench(
            *("--base-url", server.base_url, "--peer", "fifo", "--pairs", "1", "--json", "-"),
            *("--requests", "2", "--concurrency", "1", "--warmup", "0", "--priority", "3"),
        )
    assert json.loads(out)["peer"]["name"] == "one FIFO level"
    assert ["priority" in body for body in server.bodies] == [True, True, False, False]
    assert len({body["messages"][0]["content"] for body in server.bodies}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "make run"),
        (("--base-url", "http://h:1", "--turns", "5"), "does not divide"),
        (("--base-url", "http://h:1", "--peer", "vllm"), "--peer is a URL"),
        (("--base-url", "http://h:1", "--pairs", "0"), "--pairs"),
        (("--base-url", "http://h:1", "--peer", "http://h:1", "--peer-name", "h:1"), "--peer-name"),
        (("--base-url", "http://h:1", "--arrival-rate", "1", "--concurrency", "2"), "not both"),
    ],
)
def test_bench_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(CommandError, match=message):
        bench(*arguments)


def test_report_command_leaves_keys_out(monkeypatch):
    assert reproducing_command(
        ["bench", "--api-key", "x y", "--peer-api-key=z", "--seed", "1"]
    ) == ("python manage.py bench --api-key KEY --peer-api-key=KEY --seed 1")


def test_bench_command_line_reports_failure_by_its_exit_status(tmp_path, monkeypatch):
    from django.core.management import execute_from_command_line

    monkeypatch.setattr(sys, "argv", ["manage.py", "bench"])
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(
            ["manage.py", "bench", "--base-url", "http://127.0.0.1:9", *SMALL]
        )
    assert ended.value.code == 1
