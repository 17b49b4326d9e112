"""Limits that make no sense are refused where they are set."""

import pytest

from inference.engine.config import EngineConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kv_cells": 0, "max_sequences": 1}, "kv_cells must be at least 1, not 0"),
        ({"kv_cells": 9, "max_sequences": -1}, "max_sequences must be at least 1, not -1"),
        ({"kv_cells": 9, "max_sequences": 1, "step_tokens": 0}, "step_tokens must be"),
        (
            {"kv_cells": 9, "max_sequences": 1, "prefill_budget_tokens": 0},
            "prefill_budget_tokens must be",
        ),
        (
            {"kv_cells": 9, "max_sequences": 3, "step_tokens": 2},
            r"step_tokens \(2\) must hold one token for each of 3 sequences",
        ),
    ],
)
def test_engine_config_refuses_limits_that_cannot_work(fields, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**fields)


def test_engine_config_takes_the_smallest_limits():
    assert EngineConfig(1, 1, step_tokens=1, prefill_budget_tokens=1).kv_cells == 1
