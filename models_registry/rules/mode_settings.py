"""The settings of each orchestration mode, with their usual values: pure.

The names and values are those of the INFERENCE_CRITIQUE_…, INFERENCE_DEBATE_…,
INFERENCE_ENSEMBLE_… and INFERENCE_PIPELINE_… variables.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

_Rounds = Annotated[int, msgspec.Meta(ge=1, le=10)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Stages = Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=16)]


class SingleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model answers: nothing to set."""


class CritiqueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answer, critique, revision; again until the critic's score reaches the threshold."""

    max_rounds: _Rounds = 2
    threshold: _Share = 0.8


class DebateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers in parallel, then one out of them; ``reconcile_model`` is a role or a model's id."""

    max_rounds: _Rounds = 3
    reconcile_model: _Name = "primary"


class EnsembleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers of all, then what they agree on; ``synthesis_model`` is a role or a model's id."""

    min_agreement: _Share = 0.7
    synthesis_model: _Name = "primary"


class PipelineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model after the other; a stage's name for each."""

    stages: _Stages = ("draft", "refine", "validate")


ModeSettings = (
    SingleSettings | CritiqueSettings | DebateSettings | EnsembleSettings | PipelineSettings
)
_SETTINGS: Final[dict[str, type[ModeSettings]]] = {
    "single": SingleSettings,
    "critique": CritiqueSettings,
    "debate": DebateSettings,
    "ensemble": EnsembleSettings,
    "pipeline": PipelineSettings,
}


def read_settings(mode: str, values: Mapping[str, Any]) -> ModeSettings:
    """The settings of ``mode``, with usual values for what is missing.

    Raises:
        ValueError: a value is unknown, of the wrong type or out of its bounds.
    """
    try:
        settings: ModeSettings = msgspec.convert(values, _SETTINGS[mode])
    except msgspec.ValidationError as error:
        raise ValueError(f"Settings of {mode}: {error}") from error
    return settings
