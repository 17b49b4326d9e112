"""Ensemble: all members answer; a majority decides, else one member merges the answers."""

from inference.orchestration.modes.panel import Panel
from inference.orchestration.stage import Answer, Stage
from inference.orders.cast import Cast
from inference.orders.requests import ChatRequest
from models_registry.rules.mode_settings import EnsembleSettings


async def ensemble(
    stage: Stage, request: ChatRequest, cast: Cast, settings: EnsembleSettings
) -> Answer:
    """Return the answer of the majority, without another call, or the merged one."""
    least = settings.min_agreement
    panel = Panel(stage, request, cast.of("generator"))
    merger = (cast.of("synthesiser") or cast.members)[0]
    stage.foresee(panel.members, [merger])
    await panel.answer(1, panel.first_calls())
    usable = [said for said in panel.said if said.is_usable]
    if chosen := panel.majority(least):
        return await panel.outcome(chosen, "agreement", least)
    if panel.agreement.reason == "not_independent" or len(usable) == 1:
        return await panel.outcome(usable[0], "one_answer", least)
    said = await panel.merge(merger, "synthesise")
    if not said.is_usable:
        kept = said if said.text.strip() else panel.first_usable
        return await panel.outcome(kept, "synthesis_failed", least, said.error_message or "no text")
    return await panel.outcome(said, "synthesis", least)
