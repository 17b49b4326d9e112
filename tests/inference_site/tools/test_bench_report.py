import json
from dataclasses import replace

from rich.console import Console

from inference_site.tools.bench import report
from inference_site.tools.bench.comparison import compare
from inference_site.tools.bench.experiment import Outcome, Pair, PeerFacts
from inference_site.tools.bench.load import LOADS, Load
from inference_site.tools.bench.notes import describe_load, warnings
from inference_site.tools.bench.observation import Arrival, Failure, Observation
from inference_site.tools.bench.peer_server import PeerOptions
from inference_site.tools.bench.runner import RunResult
from inference_site.tools.bench.summary import summarise
from inference_site.tools.bench.wire import Usage


def run(server="Brigade", seconds=1.0, **changes):
    """A run of one request: two tokens, the first after half the time."""
    seen = Observation(
        0.0,
        requested_prompt_tokens=60,
        requested_output_tokens=2,
        arrivals=[Arrival(seconds / 2, 1, 3), Arrival(seconds, 1, 3)],
        usage=Usage(70, 2),
        finish_reason="length",
        finished_seconds=seconds,
    )
    result = RunResult([seen], duration_seconds=seconds, client_cpu_seconds=0.01)
    return replace(summarise(server, Load(requests=1, concurrency=1), result), **changes)


def alone(**changes):
    load = Load(requests=1, concurrency=1)
    return Outcome(load, "http://h:1", "m", 7, "abc", run=run(**changes))


def paired(ours, peer):
    options = PeerOptions("/m.gguf", 2, 8, 16384)
    facts = PeerFacts("llama-server", "http://h:2", options, "1.2", "CPU", [])
    pairs = [Pair(ours, peer)] * 2
    comparison = compare([(pair.ours, pair.peer) for pair in pairs])
    outcome = Outcome(LOADS["unshared-8"], "http://h:1", "m", 7, "abc")
    return replace(outcome, peer=facts, pairs=pairs, comparison=comparison)


def rendered(outcome):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.terminal(outcome))
    return capture.get()


def test_seconds_are_shown_in_ms_below_one_second():
    assert report.format_seconds(0.01234) == "12.3 ms"
    assert report.format_seconds(0.9996) == "1.00 s"
    assert report.format_seconds(12.345) == "12.35 s"


def test_terminal_shows_times_rates_lengths_and_keys():
    shown = rendered(alone())
    for part in (
        "TTFT",
        "500 ms",
        "2.0 output tok/s",
        "72.0 total tok/s",
        "prompt tokens: 60 asked for, 70.0 counted",
        "seed 7, nonce abc, model m",
        "client CPU, of one core: 1.0%",
    ):
        assert part in shown


def test_terminal_shows_failures_by_kind_with_an_example():
    failed = Observation(0.0, failure=Failure("http_503 model_busy", "The queue is [full]."))
    result = RunResult([failed, failed], duration_seconds=1.0)
    summary = summarise("Brigade", Load(requests=2), result)
    outcome = Outcome(Load(requests=2), "http://h:1", "m", 7, "abc", run=summary)
    assert "2 x http_503 model_busy: The queue is [full]." in rendered(outcome)
    assert outcome.failure_count == 2


def test_unmeasured_distribution_has_no_row():
    assert "TTFT" not in rendered(alone(ttft_seconds=None))


def test_markdown_of_a_comparison_is_a_table_with_its_command():
    made = report.markdown(paired(run(seconds=1.0), run("llama-server", 2.0)), "python x")
    lines = made.splitlines()
    assert lines[0] == "**unshared-8: 8 concurrent, 24 requests, 60 unshared tokens, 64 new**"
    assert "|  | Brigade | llama-server | ratio | min-max |" in lines
    assert "| output tok/s | 2.0 | 1.0 | 2.00 | 2.00-2.00 |" in lines
    assert "| TTFT p50 | 500 ms | 1.00 s | 0.50 | 0.50-0.50 |" in lines
    assert "`python x`" in lines
    assert "2 threads, 8 slots, 16384 tokens of unified context" in made


def test_json_holds_all_runs():
    written = json.loads(report.json_bytes(paired(run(), run("llama-server"))))
    assert written["nonce"] == "abc"
    assert written["pairs"][0]["peer"]["server"] == "llama-server"
    assert written["pairs"][0]["ours"]["ttft_seconds"]["p50"] == 0.5
    assert written["comparison"][0]["label"] == "output tok/s"


def test_good_run_has_no_warnings():
    assert warnings(alone(machine_busy_before_ratio=0.05)) == []


def test_doubtful_runs_are_warned_about():
    long_load = Load(requests=1, concurrency=1, output_tokens=64)
    seen = Observation(0.0, requested_output_tokens=64, arrivals=[Arrival(0.1, 1, 1)])
    short = summarise("Brigade", long_load, RunResult([seen], duration_seconds=1.0))
    busy = replace(short, machine_busy_before_ratio=0.5, peer_idle_cpu_seconds=0.9)
    found = "\n".join(warnings(Outcome(long_load, "http://h:1", "m", 7, "abc", run=busy)))
    assert "busy with other work before 1 of 1 runs" in found
    assert "stopped early: 1.0 tokens" in found
    assert "no usage for 1 requests" in found
    assert "idle peer used up to 0.90 s" in found


def test_peer_that_is_not_built_for_this_cpu_is_warned_about():
    outcome = paired(run(), run("llama-server"))
    assert outcome.peer is not None
    peer = replace(outcome.peer, unused_cpu_features=["AVX512"])
    assert "does not use AVX512" in warnings(replace(outcome, peer=peer))[0]


def test_load_is_described_in_one_line():
    assert describe_load(LOADS["personas"]) == (
        "personas: 8 concurrent, 24 requests, shared prefix of 300 tokens of 4 personas, "
        "32 unshared tokens, 64 new"
    )
    assert "open loop at 0.5/s" in describe_load(LOADS["interactive"])
    assert "beside 32 background generations" in describe_load(LOADS["interactive"])
