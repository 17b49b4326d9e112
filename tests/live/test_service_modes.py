"""Runs of several models through the official SDK, and ``kill -9`` of each part meanwhile."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from openai import OpenAI

from tests.live.service import LiveService
from tests.live.sse import Events
from tests.waiting import wait_until

pytestmark = pytest.mark.live
PRESETS = {
    "L2": {"g", "c1"},  # and a revision, if the critic finds an error
    "L3": {"r1.0", "r1.1"},
    "L4": {"r1.0", "r1.1", "r1.2", "final"},
    "L5": {"s1", "s2", "s3"},
}
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
# A bias that no logit outweighs makes the draft one word again and again; its critic is free, and
# in its greedy verdict nothing quotes the draft, so that the draft is the answer.
WORD, LENGTH = " that", 40
CRITIQUE: dict[str, Any] = {
    "model": "L2",
    "messages": [{"role": "user", "content": "Tell a very long story"}],
    "max_tokens": LENGTH,
    "temperature": 0,
    "logit_bias": {"338": 100},
    "ignore_eos": True,
    "cache": {"mode": "no-store"},
    **STREAMED,
}
RUNS = 20


def ensemble(about: str, tokens: int) -> dict[str, Any]:
    """A request for answers that differ, and are merged."""
    return {
        "model": "L4",
        "messages": [{"role": "user", "content": f"Tell me about {about}."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        **STREAMED,
    }


@dataclass(frozen=True)
class Row:
    """A row of a call of a run."""

    key: str
    attempt: int
    generation_id: str
    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    is_ended: bool


def steps_of(service: LiveService, run_id: str) -> dict[str, Row]:
    """The calls of a run; each must have been made once."""
    rows = [
        Row(*row)
        for row in service.query(
            "SELECT key, attempt, generation_id, text, finish, prompt_tokens, completion_tokens, "
            f"ended_at IS NOT NULL FROM inference_runstep WHERE run_id = '{run_id}' ORDER BY id"
        )
    ]
    assert [row.attempt for row in rows] == [0] * len(rows)
    return {row.key: row for row in rows}


def wait_recorded(service: LiveService, rows: dict[str, Row]) -> dict[str, tuple[int, int]]:
    """The tokens of the record of each call, once the ledger has them all."""
    keys_of = {row.generation_id: key for key, row in rows.items()}
    ids = ", ".join(f"'{one}'" for one in keys_of)

    def recorded() -> dict[str, tuple[int, int]]:
        found = service.query(
            "SELECT run_id, prompt_tokens, completion_tokens FROM metrics_requestrecord "
            f"WHERE run_id IN ({ids})"
        )
        return {keys_of[run_id]: (prompt, text) for run_id, prompt, text in found}

    wait_until(lambda: recorded().keys() == rows.keys(), 60)
    return recorded()


def check_usage(service: LiveService, usage: dict[str, Any], rows: dict[str, Row]) -> None:
    """The usage of a run is the sum of its calls, by their rows and by their records."""
    told = (usage["prompt_tokens"], usage["completion_tokens"])
    of_rows = [(row.prompt_tokens, row.completion_tokens) for row in rows.values()]
    assert told == tuple(map(sum, zip(*of_rows, strict=True)))
    of_records = wait_recorded(service, rows).values()
    assert told == tuple(map(sum, zip(*of_records, strict=True)))


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_answers_the_sdk_streamed_and_whole(
    service: LiveService, client: OpenAI, preset: str
) -> None:
    # With a seed the calls of the second request are known, so that its answer is the same.
    body: dict[str, Any] = {
        "model": preset,
        "messages": [{"role": "user", "content": "Name a colour of the sea."}],
        "max_tokens": 12,
        "seed": 5,
    }
    url = service.base_url + "/v1/chat/completions"
    events = Events(url, service.api_key, body | STREAMED).wait_over()
    assert events.is_done, events.error
    assert not [line for line in events.lines if line.startswith("event:")]
    *chunks, usage = events.chunks
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert usage["choices"] == []
    assert usage["orchestration"] == chunks[-1]["orchestration"]
    steps = usage["orchestration"]["steps"]
    assert {step["key"] for step in steps} >= PRESETS[preset]
    assert sum(step["completion_tokens"] for step in steps) == usage["usage"]["completion_tokens"]
    check_usage(service, usage["usage"], steps_of(service, events.id))

    with client.chat.completions.stream(**body, stream_options=STREAMED["stream_options"]) as told:
        for _ in told:
            pass
        snapshot = told.current_completion_snapshot
    whole = client.chat.completions.create(**body)
    for answer in (snapshot, whole):
        assert answer.choices[0].message.content == events.text
        assert answer.choices[0].finish_reason == events.finish_reason
        assert answer.usage is not None
        assert answer.usage.completion_tokens == usage["usage"]["completion_tokens"]
    assert whole.model_extra is not None
    summary = usage["orchestration"] | {"steps": None}
    assert whole.model_extra["orchestration"] | {"steps": None} == summary


def test_many_runs_at_once_all_end_on_a_short_queue(service: LiveService) -> None:
    with (
        service.second_web(INFERENCE_MAX_QUEUE_SIZE="50") as (_, url),
        ThreadPoolExecutor(RUNS) as pool,
    ):
        client = OpenAI(base_url=f"{url}/v1", api_key=service.api_key, max_retries=0)

        def answer(number: int) -> Any:
            messages: Any = [{"role": "user", "content": f"Say {number}."}]
            return client.chat.completions.create(model="L4", messages=messages, max_tokens=2)

        answers = list(pool.map(answer, range(RUNS)))
    told = [answer.model_extra["orchestration"] for answer in answers]
    assert {(one["partial"], one["degraded"]) for one in told} == {(False, False)}
    assert {step["attempt"] for one in told for step in one["steps"]} == {0}


@dataclass(frozen=True)
class Left:
    """Runs of a web process that was killed, and the streams of the clients that came back."""

    critique: tuple[Events, Events]
    ensemble: tuple[Events, Events]
    abandoned: Events


@pytest.fixture(scope="module")
def left(live_service: LiveService) -> Iterator[Left]:
    """Three runs of a web process that is killed; two clients come back, at once."""
    live_service.wait_ready()
    key = live_service.api_key

    def back(events: Events) -> Events:
        url = f"{live_service.base_url}/v1/streams/{events.id}"
        return Events(url, key, last_event_id=events.last_id)

    with live_service.second_web() as (process, url):
        url += "/v1/chat/completions"
        merged = Events(url, key, ensemble("the sea", 120)).wait_told("step_start", "final")
        reviewed, abandoned = (Events(url, key, CRITIQUE) for _ in range(2))
        for events in (reviewed, abandoned):
            events.wait_told("step_start", "c1")
        merged.wait_text()
        # A call is told before it is queued; one that never was queued has no record.
        wait_until(lambda: live_service.running_sequences() == 3, 30)
        process.kill()
        for events in (merged, reviewed, abandoned):
            assert not events.wait_over().is_done
        assert ("step_end", "final") not in merged.told
        yield Left((reviewed, back(reviewed)), (merged, back(merged)), abandoned)


@pytest.mark.parametrize("name", ["critique", "ensemble"])
def test_run_of_a_killed_web_process_goes_on_where_its_client_was(
    service: LiveService, left: Left, name: str
) -> None:
    before, after = getattr(left, name)
    assert after.wait_over().is_done, after.lines[-3:]
    rows = steps_of(service, before.id)
    told = before.told + after.told
    assert sorted(told) == sorted(
        (event, key) for key in rows for event in ("step_start", "step_end")
    )
    answer = after.chunks[-1]["orchestration"]["answer_from"]
    assert before.text + after.text == rows[answer].text
    if name == "critique":
        assert (answer, after.text) == ("g", WORD * LENGTH)
    else:
        assert before.text
        assert (answer, after.finish_reason) == ("final", "length")
    check_usage(service, after.chunks[-1]["usage"], rows)


def test_run_that_nobody_comes_back_for_is_cancelled_with_exact_usage(
    service: LiveService, left: Left
) -> None:
    run_id = left.abandoned.id

    def state() -> str:
        ((value,),) = service.query(
            f"SELECT state FROM inference_orchestrationrun WHERE id = '{run_id}'"
        )
        return str(value)

    wait_until(lambda: state() != "running", 40)
    assert state() == "cancelled"
    wait_until(lambda: service.running_sequences() == 0, 60)
    rows = steps_of(service, run_id)
    assert rows.keys() == {"g", "c1"}
    url = f"{service.base_url}/v1/streams/{run_id}"
    events = Events(url, service.api_key, last_event_id=left.abandoned.last_id).wait_over()
    assert (events.text, events.finish_reason) == ("", None)
    assert events.chunks[-1]["error"]["code"] == "host_lost"
    drafted = rows["g"]
    records = wait_recorded(service, rows)
    assert records["g"] == (drafted.prompt_tokens, LENGTH)
    assert records["c1"][1] > 0


def test_host_killed_during_a_panel_leaves_one_attempt_per_call(service: LiveService) -> None:
    url = service.base_url + "/v1/chat/completions"
    events = Events(url, service.api_key, ensemble("the hills", 60))
    events.wait_told("step_start", "r1.2")
    wait_until(lambda: service.running_sequences() == 3, 30)
    os.kill(service.host_process(), signal.SIGKILL)
    assert events.wait_over().is_done, events.lines[-3:]
    assert events.finish_reason == "length"
    rows = steps_of(service, events.id)
    assert rows.keys() == PRESETS["L4"]
    assert [row.completion_tokens for row in rows.values()] == [60] * 4
    assert events.text == rows["final"].text
    check_usage(service, events.chunks[-1]["usage"], rows)
    service.execute("UPDATE models_registry_replica SET crashes = 0")


def test_controller_killed_during_a_run_does_not_touch_it(service: LiveService) -> None:
    url = service.base_url + "/v1/chat/completions"
    events = Events(url, service.api_key, CRITIQUE).wait_told("step_start", "c1")
    assert service.process is not None
    supervisor = service.process.pid
    (controller,) = (
        process
        for process in service.processes("manage.py", "controller")
        if process.ppid() == supervisor
    )
    controller.kill()
    assert events.wait_over().is_done
    assert events.text == WORD * LENGTH
    assert steps_of(service, events.id).keys() == {"g", "c1"}
    wait_until(
        lambda: [
            process
            for process in service.processes("manage.py", "controller")
            if process.ppid() == supervisor and process.pid != controller.pid
        ],
        30,
    )
