"""Defaults, the room that is left, priorities and event ids."""

from typing import Any

import pytest

from inference.api.streams import parse_cursor
from inference.errors import ContextBudgetExceededError, InternalError, InvalidRequestError
from inference.messages import SamplingParameters
from inference.orders.defaults import (
    check_stream_options,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from models_registry.rules.spec import ModelSpec


def spec(**fields: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "model_slug": "m",
        "version_key": "m@v",
        "type": "text_generation",
        "path": "m.gguf",
        "chat_template": "",
        "context_length_tokens": 100,
        "kv_cells": 1000,
        "max_sequences": 4,
    }
    return ModelSpec(**(values | fields))


def request(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "x"}]
    return parse({"model": "m", "messages": messages, **fields}, ChatRequest)


def test_sampling_defaults_are_openais():
    assert sampling_of(request(), spec(), 10) == SamplingParameters()


def test_sampling_of_the_request_overrides_the_version():
    defaults = {"temperature": 0.2, "top_k": 40}
    sampling = sampling_of(request(temperature=0), spec(default_sampling=defaults), 10)
    assert (sampling.temperature, sampling.top_k) == (0, 40)


def test_sampling_of_null_is_the_versions():
    sampling = sampling_of(request(top_p=None), spec(default_sampling={"top_p": 0.5}), 10)
    assert sampling.top_p == 0.5


@pytest.mark.parametrize("defaults", [{"temperature": 9}, {"top_k": "x"}])
def test_sampling_of_a_version_that_is_invalid_is_an_internal_error(defaults: dict[str, Any]):
    with pytest.raises(InternalError, match="m@v"):
        sampling_of(request(), spec(default_sampling=defaults), 10)


def test_sampling_of_a_version_ignores_unknown_names(
    caplog: pytest.LogCaptureFixture,
):
    old = spec(version_key="m@old", default_sampling={"top_k": 4, "stop": ["x"], "seed": 1})
    for _ in range(2):
        assert sampling_of(request(), old, 10) == SamplingParameters(top_k=4)
    assert caplog.messages == ["default sampling of m@old: ignored unknown seed, stop"]


@pytest.mark.parametrize(
    ("seed", "kept"),
    [(0, 0), (-1, 2**32 - 2), (2**32 - 2, 2**32 - 2), (2**32 - 1, 0), (None, None)],
)
def test_sampling_seed_fits_the_engine(seed: int | None, kept: int | None):
    assert sampling_of(request(seed=seed), spec(), 10).seed == kept


@pytest.mark.parametrize(
    ("temperature", "kept"), [(0, 0), (5e-324, 0), (1e-6, 0), (1e-5, 1e-5), (2, 2)]
)
def test_sampling_near_zero_temperature_is_greedy(temperature: float, kept: float):
    assert sampling_of(request(temperature=temperature), spec(), 10).temperature == kept


def test_logit_bias_ids_become_numbers():
    sampling = sampling_of(request(logit_bias={"0": 1, "9": -100}), spec(), 10)
    assert sampling.logit_bias == {0: 1, 9: -100}


@pytest.mark.parametrize("token", ["10", "-1", "1.5", "x", "", " 1", "1_0", "²", "9" * 5000])
def test_logit_bias_of_no_token_is_refused_with_the_range(token: str):
    with pytest.raises(InvalidRequestError, match="0 to 9") as error:
        sampling_of(request(logit_bias={token: 1}), spec(), 10)
    assert error.value.param == "logit_bias"


def test_max_tokens_fills_the_context():
    assert max_tokens_of([[1] * 30], None, spec(), "messages") == 70
    assert max_tokens_of([[1] * 30], 5, spec(), "messages") == 5
    assert max_tokens_of([[1], [1] * 60], None, spec(), "prompt") == 40


def test_max_tokens_is_bounded_by_the_cells_of_a_replica():
    assert max_tokens_of([[1] * 30], None, spec(kv_cells=50), "messages") == 20


@pytest.mark.parametrize(("prompt", "wanted"), [(99, 1), (50, 50)])
def test_max_tokens_may_fill_the_context(prompt: int, wanted: int):
    assert max_tokens_of([[1] * prompt], wanted, spec(), "messages") == wanted


@pytest.mark.parametrize(("prompt", "wanted"), [(100, None), (99, 2), (5000, 1)])
def test_max_tokens_beyond_the_context_are_refused_with_both_numbers(
    prompt: int, wanted: int | None
):
    with pytest.raises(ContextBudgetExceededError) as error:
        max_tokens_of([[1] * prompt], wanted, spec(), "messages")
    assert error.value.code == "context_length_exceeded"
    assert error.value.param == "messages"
    assert str(prompt) in error.value.message
    assert "100" in error.value.message
    assert error.value.details["prompt_tokens"] == prompt
    assert error.value.details["context_length"] == 100


@pytest.mark.parametrize("prompts", [[[]], [[1], []]])
def test_max_tokens_of_an_empty_prompt_is_refused(prompts: list[list[int]]):
    with pytest.raises(InvalidRequestError, match="empty"):
        max_tokens_of(prompts, 1, spec(), "prompt")


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, 2),
        ({"priority": 1}, 1),
        ({"service_type": "chat"}, 3),
        ({"service_type": "embedding"}, 2),
        ({"service_type": "summary"}, 1),
        ({"service_type": "summary", "priority": 3}, 3),
    ],
)
def test_priority_is_the_requests_before_its_service_types(fields: dict[str, Any], priority: int):
    assert priority_of(request(**fields), 2) == priority


def test_stream_options_need_a_stream():
    check_stream_options(request(stream=True, stream_options={}))
    check_stream_options(request())
    with pytest.raises(InvalidRequestError) as error:
        check_stream_options(request(stream_options={}))
    assert error.value.param == "stream_options"


@pytest.mark.parametrize(
    ("text", "cursor"), [("", []), ("0", [0]), ("12", [12]), ("1,20,3", [1, 20, 3])]
)
def test_cursor_is_one_number_per_choice(text: str, cursor: list[int]):
    assert parse_cursor(text) == cursor


@pytest.mark.parametrize("text", ["x", "-1", "1.0", ",", "1,", ",1", "1 ", "1" * 10, "²"])
def test_cursor_that_is_invalid_is_refused(text: str):
    with pytest.raises(InvalidRequestError) as error:
        parse_cursor(text)
    assert error.value.param == "after"
