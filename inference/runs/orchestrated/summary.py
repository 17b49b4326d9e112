"""The usage of a run of several models, and its fields in the response: pure."""

from collections.abc import Sequence
from typing import Any

from inference.messages import Usage
from inference.models import RunStep
from inference.orchestration.stage import Answer
from inference.orders.cast import Cast


def summary_of(
    cast: Cast, steps: Sequence[RunStep], notices: Sequence[dict[str, Any]], answer: Answer | None
) -> tuple[Usage, dict[str, Any]]:
    """The sum of all calls, and ``orchestration`` and ``inference_metadata`` of the response.

    ``answer`` is None where the run was stopped or has failed.
    """
    total = Usage(
        sum(step.prompt_tokens for step in steps),
        sum(step.completion_tokens for step in steps),
        sum(step.cached_tokens for step in steps),
        hidden_tokens=sum(step.completion_tokens for step in steps)
        - (answer.said.completion_tokens if answer else 0),
    )
    names = list(dict.fromkeys(member.spec.model_slug for member in cast.members))
    by_index = {member.index: member.spec for member in cast.members}
    used = list(dict.fromkeys(by_index[step.member].model_slug for step in steps))
    done = [step for step in steps if step.ended_at and not step.error_code]
    orchestration: dict[str, Any] = {
        "mode": cast.mode,
        "requested_mode": cast.requested_mode or cast.mode,
        "preset": cast.preset or None,
        "models_used": used or names,
        "rounds": answer.rounds if answer else None,
        "stopped_by": answer.stopped_by if answer else None,
        "confidence": _rounded(answer.confidence if answer else None),
        "confidence_method": (answer.confidence_method if answer else "") or None,
        "agreement": None,
        "answer_from": answer.said.key if answer else None,
        "partial": bool(answer and answer.error),
        "degraded": False,
        "notices": list(notices),
        "steps": [_step(step) for step in steps],
    }
    if answer is not None:
        orchestration |= answer.facts
        if answer.error:
            counts = {"completed_steps": len(done), "total_steps": len(steps)}
            orchestration |= counts | {"error": answer.error}
    shares = [
        (step.prompt_tokens + step.completion_tokens) / step.context_tokens
        for step in steps
        if step.context_tokens
    ]
    metadata = {
        "config": cast.preset or None,
        "orchestration_mode": cast.mode,
        "models_used": orchestration["models_used"],
        "handoff_steps": max(0, len({step.key for step in steps}) - 1),
        "compression_applied": any(one["code"] == "compressed" for one in notices),
        "context_utilization": _rounded(max(shares, default=None)),
    }
    return total, {"orchestration": orchestration, "inference_metadata": metadata}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _step(step: RunStep) -> dict[str, Any]:
    state = "failed" if step.error_code else "finished" if step.ended_at else "running"
    seconds = (step.ended_at - step.started_at).total_seconds() if step.ended_at else None
    return {
        "key": step.key,
        "attempt": step.attempt,
        "phase": step.phase,
        "round": step.round,
        "role": step.participant,
        "version": step.version_key,
        "state": state,
        "error": step.error_code or None,
        "prompt_tokens": step.prompt_tokens,
        "cached_tokens": step.cached_tokens,
        "completion_tokens": step.completion_tokens,
        "seconds": _rounded(seconds),
    }
