"""The number of generations that a run makes at most, known before its first."""

from inference.orders.cast import Cast
from models_registry.rules.mode_settings import CritiqueSettings, DebateSettings, ModeSettings
from models_registry.rules.roles import Participant


def calls_at_most(cast: Cast, settings: ModeSettings) -> int:
    """The bound of a run with these settings; retries and compressions come on top."""
    if isinstance(settings, CritiqueSettings):
        return 1 + 2 * settings.max_rounds
    if isinstance(settings, DebateSettings):
        return len(cast.of(Participant.DEBATER)) * settings.max_rounds + 1
    if cast.mode == "ensemble":
        return len(cast.of(Participant.GENERATOR)) + 1
    return len(cast.members)
