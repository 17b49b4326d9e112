"""Critique: a draft, its critique by another member, a revision; until little is wrong."""

from inference.orchestration import critic
from inference.orchestration.critic import Issue
from inference.orchestration.requests import fenced, own_request_of, request_of
from inference.orchestration.stage import Answer, Call, Said, Stage
from inference.orders.cast import Cast, Member
from inference.orders.requests import ChatRequest, Message
from models_registry.rules.mode_settings import CritiqueSettings

_REVISE = """\
A reviewer found these errors in your answer:
{issues}
Correct these and only these; repeat the rest unchanged. Write the corrected answer only."""


async def critique(
    stage: Stage, request: ChatRequest, cast: Cast, settings: CritiqueSettings
) -> Answer:
    """Return the best answer; a revision that scores lower than its predecessor is not used."""
    (generator, *_), (judge, *_) = cast.of("generator"), cast.of("critic")
    reviser = (cast.of("reviser") or [generator])[0]
    stage.foresee([generator], [judge], [reviser])
    current = await stage.complete(first_call(generator, request))
    if not current.is_usable:
        raise current.error
    best, score = current, -1.0
    for number in range(1, settings.max_rounds + 1):
        stage.foresee([judge], [reviser])
        (draft,) = await stage.fitted(judge, request, [current.text])
        said = await stage.complete(_critique(judge, request, draft, number))
        found = critic.verdict_of(said.text, current.text) if said.is_usable else None
        if found is None:
            error = said.error_message or f"{judge.spec.model_slug} has given no verdict."
            return _answer(best, number - 1, "critic_failed", score, error)
        verdict, dropped = found
        if dropped:
            await stage.notice("ungrounded_issue", step=said.key, count=len(dropped))
        await stage.end_phase("critique", number, score=verdict.score, issues=len(verdict.issues))
        if verdict.score < score:
            return _answer(best, number, "worse", score)
        best, score = current, verdict.score
        if dropped and not verdict.issues:
            # Its score is for errors that are not in the text.
            return _answer(best, number, "ungrounded", None)
        if not verdict.issues or score / 10 >= settings.threshold:
            return _answer(best, number, "threshold" if verdict.issues else "no_issues", score)
        is_last = number == settings.max_rounds
        stage.foresee([reviser], *([] if is_last else [[judge], [reviser]]))
        (draft,) = await stage.fitted(reviser, request, [current.text])
        call = _revision(reviser, request, draft, verdict.issues, number)
        revised = await stage.complete(call, is_answer=is_last)
        if not revised.is_usable:
            kept = revised if is_last and revised.text else best
            scored = score if kept is best else None
            return _answer(kept, number, "revision_failed", scored, revised.error_message)
        current = revised
    return _answer(current, settings.max_rounds, "max_rounds", None)


def first_call(member: Member, request: ChatRequest) -> Call:
    """The call for the draft."""
    return Call("g", "generate", 1, member, request_of(request, "g"))


def _critique(member: Member, request: ChatRequest, draft: str, number: int) -> Call:
    key = f"c{number}"
    block = critic.INSTRUCTION.format(answer=fenced(draft))
    asked = own_request_of(request, key, block, critic.SCHEMA, critic.MAX_TOKENS)
    return Call(key, "critique", number, member, asked)


def _revision(
    member: Member, request: ChatRequest, draft: str, issues: list[Issue], number: int
) -> Call:
    key = f"v{number}"
    lines = [
        fenced(" ".join(f'- "{one.quote}": {one.problem} {one.fix}'.split())) for one in issues
    ]
    turns = [
        Message(role="assistant", content=draft),
        Message(role="user", content=_REVISE.format(issues="\n".join(lines))),
    ]
    return Call(key, "revise", number, member, request_of(request, key, turns=turns))


def _answer(
    said: Said, rounds: int, stopped_by: str, score: float | None, error: str = ""
) -> Answer:
    is_scored = score is not None and score >= 0
    confidence = score / 10 if is_scored and score is not None else None
    method = "score of the critic, not checked" if is_scored else ""
    return Answer(said, rounds, stopped_by, confidence, method, error)
