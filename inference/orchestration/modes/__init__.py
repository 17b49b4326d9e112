"""The modes: each makes calls on a stage, and returns an answer."""

from inference.orchestration.modes.critique import critique
from inference.orchestration.modes.debate import debate
from inference.orchestration.modes.ensemble import ensemble
from inference.orchestration.modes.pipeline import pipeline
from inference.orchestration.stage import Answer, Stage
from inference.orders.cast import Cast
from inference.orders.requests import ChatRequest
from models_registry.rules.mode_settings import (
    CritiqueSettings,
    DebateSettings,
    EnsembleSettings,
    PipelineSettings,
)


async def perform(stage: Stage, request: ChatRequest, cast: Cast) -> Answer:
    """Let the members of a cast answer a request.

    Raises:
        InferenceError: nobody has given an answer.
    """
    match cast.settings:
        case CritiqueSettings() as settings:
            return await critique(stage, request, cast, settings)
        case DebateSettings() as settings:
            return await debate(stage, request, cast, settings)
        case EnsembleSettings() as settings:
            return await ensemble(stage, request, cast, settings)
        case PipelineSettings() as settings:
            return await pipeline(stage, request, cast, settings)
        case other:
            raise TypeError(f"{type(other).__name__} is not for several models")
