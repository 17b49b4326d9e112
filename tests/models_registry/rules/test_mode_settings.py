"""Settings of modes: usual values, and what is refused."""

import pytest

from models_registry.rules.mode_settings import (
    CritiqueSettings,
    DebateSettings,
    EnsembleSettings,
    PipelineSettings,
    SingleSettings,
    read_settings,
)


@pytest.mark.parametrize(
    ("mode", "usual"),
    [
        ("single", SingleSettings()),
        ("critique", CritiqueSettings(max_rounds=2, threshold=0.8)),
        ("debate", DebateSettings(max_rounds=3, reconcile_model="primary")),
        ("ensemble", EnsembleSettings(min_agreement=0.7, synthesis_model="primary")),
        ("pipeline", PipelineSettings(stages=("draft", "refine", "validate"))),
    ],
)
def test_settings_have_usual_values(mode: str, usual: object) -> None:
    assert read_settings(mode, {}) == usual


def test_settings_take_what_is_set() -> None:
    settings = read_settings("pipeline", {"stages": ["draft", "code"]})
    assert settings == PipelineSettings(stages=("draft", "code"))


@pytest.mark.parametrize(
    ("mode", "values", "message"),
    [
        ("single", {"max_rounds": 1}, "unknown field `max_rounds`"),
        ("critique", {"threshold": 1.5}, r"<= 1.*threshold"),
        ("critique", {"max_rounds": 0}, r">= 1.*max_rounds"),
        ("debate", {"reconcile_model": 3}, r"`str`.*reconcile_model"),
        ("pipeline", {"stages": []}, r"length >= 1.*stages"),
    ],
)
def test_bad_settings_are_refused_with_the_reason(mode: str, values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"Settings of {mode}: .*{message}"):
        read_settings(mode, values)


def test_settings_that_are_left_out_are_those_of_the_service() -> None:
    service = CritiqueSettings(max_rounds=5, threshold=0.5)
    assert read_settings("critique", {"threshold": 1}, service) == CritiqueSettings(5, 1)
