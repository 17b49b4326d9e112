"""The orchestration modes and their settings.

Names and defaults are those of the INFERENCE_CRITIQUE_…, INFERENCE_DEBATE_…, INFERENCE_ENSEMBLE_…
and INFERENCE_PIPELINE_… variables.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from django.db.models import TextChoices

_Rounds = Annotated[int, msgspec.Meta(ge=1, le=10)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Stages = Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=16)]


class OrchestrationMode(TextChoices):
    SINGLE = "single"
    CRITIQUE = "critique"
    DEBATE = "debate"
    ENSEMBLE = "ensemble"
    PIPELINE = "pipeline"


class SingleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class CritiqueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answer, critique, revision; repeated until the critic's score reaches the threshold."""

    max_rounds: _Rounds = 2
    threshold: _Share = 0.8


class DebateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parallel answers, reconciled into one; ``reconcile_model`` is a role or a model's id."""

    max_rounds: _Rounds = 3
    reconcile_model: _Name = "primary"


class EnsembleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parallel answers, merged by agreement; ``synthesis_model`` is a role or a model's id."""

    min_agreement: _Share = 0.7
    synthesis_model: _Name = "primary"


class PipelineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model after the other; ``stages`` names the step of each."""

    stages: _Stages = ("draft", "refine", "validate")


ModeSettings = (
    SingleSettings | CritiqueSettings | DebateSettings | EnsembleSettings | PipelineSettings
)
_SETTINGS: Final[Mapping[str, type[ModeSettings]]] = {
    OrchestrationMode.SINGLE: SingleSettings,
    OrchestrationMode.CRITIQUE: CritiqueSettings,
    OrchestrationMode.DEBATE: DebateSettings,
    OrchestrationMode.ENSEMBLE: EnsembleSettings,
    OrchestrationMode.PIPELINE: PipelineSettings,
}


def read_settings(
    mode: str, values: Mapping[str, Any], defaults: ModeSettings | None = None
) -> ModeSettings:
    """The settings of ``mode``; missing ones are those of ``defaults``, or else the usual ones.

    Raises:
        ValueError: a name is unknown, or a value has a wrong type or is out of range.
    """
    try:
        usual = {} if defaults is None else msgspec.structs.asdict(defaults)
        settings: ModeSettings = msgspec.convert({**usual, **values}, _SETTINGS[mode])
    except msgspec.ValidationError as error:
        raise ValueError(f"Settings of {mode}: {error}") from error
    return settings
