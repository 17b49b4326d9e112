"""The conductor: makes the calls of a run of several models, and writes the stream of the run."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from redis.exceptions import RedisError

from inference.database import in_database
from inference.errors import (
    HostLostError,
    InferenceError,
    InternalError,
    RetriableError,
    TemporaryResourceError,
)
from inference.messages import (
    Delta,
    Failed,
    Finished,
    Frame,
    RunHeader,
    Started,
    Usage,
    encode,
)
from inference.models import OrchestrationRun, RunStep
from inference.orchestration.modes import perform
from inference.orchestration.requests import is_greedy
from inference.orchestration.stage import Answer, Call, Said, Vector
from inference.orders.cast import Cast, Member
from inference.orders.chat import chat_order
from inference.orders.requests import ChatRequest
from inference.principal import Principal
from inference.queue.relay import RENEW_SECONDS, LostRunError, Relay, Standing
from inference.runs.leaving import left_surely
from inference.runs.orchestrated import rows
from inference.runs.orchestrated.handoffs import fitted
from inference.runs.orchestrated.run_stream import RunStream
from inference.runs.orchestrated.summary import summary_of
from inference.runs.run import Run, failure_of, new_run_id
from inference.runs.runtime import runtime
from inference.runs.semantic_search import is_ready, vectors_of

if TYPE_CHECKING:
    from inference.runs.generate import Generate

logger = logging.getLogger(__name__)

_RETRIES: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Conductor:
    """The stage of one run.

    Args:
        header: of the run.
        request: the client's.
        cast: of the run.
        principal: the caller.
        onward: answers the order of one call.
        relay: of the run's stream.
        sent: the frames that the stream has already.
    """

    def __init__(
        self,
        header: RunHeader,
        request: ChatRequest,
        cast: Cast,
        principal: Principal,
        onward: "Generate",
        relay: Relay,
        sent: Sequence[Frame] = (),
    ) -> None:
        self.run_id = header.id
        self._header, self._request, self._cast = header, request, cast
        self._principal, self._onward, self._relay = principal, onward, relay
        options = request.orchestration
        self._stream = RunStream(relay, (options and options.events) or "phases", sent)
        self._is_stopping = False
        self._deadline = asyncio.Timeout(None)
        self._notices: list[dict[str, Any]] = []
        self._phases: list[list[str]] = []
        self._handoffs = 0

    async def conduct(self) -> None:
        """Carry out the run, to its last frame; stop it when it is asked to stop."""
        work = asyncio.create_task(self._work())
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=RENEW_SECONDS)
                if not work.done() and await self._standing() is Standing.STOPPING:
                    self._is_stopping = True
                    work.cancel()
                    await asyncio.wait({work})
                    await self._end(Finished("cancelled", Usage(0, 0)))
                    return
            await work
        except LostRunError:
            logger.info("another process goes on with the run %s", self._header.id)
        except Exception:
            logger.exception("the run %s failed", self._header.id)
            await self._end(Failed(InternalError.default_code, "The run failed. Try again."))
        finally:
            work.cancel()

    async def _standing(self) -> Standing:
        try:
            return await self._stream.standing()
        except RedisError as error:
            logger.warning("the run %s waits for Redis: %r", self._header.id, error)
            return Standing.HELD

    async def _work(self) -> None:
        seconds = runtime().settings.orchestration.timeout_seconds
        try:
            async with asyncio.timeout(seconds) as self._deadline:
                answer = await perform(self, self._request, self._cast)
        except (InferenceError, TimeoutError) as error:
            known = error
            if not isinstance(known, InferenceError):
                text = f"The run did not finish within {seconds:g} s "
                known = TemporaryResourceError(f"{text}(INFERENCE_ORCHESTRATION_TIMEOUT).")
            said = await in_database(rows.latest_answer, self._header.id, self._stream.answered_by)
            if said is None:
                retry = known.retry_after_ms / 1000 if isinstance(known, RetriableError) else None
                await self._end(Failed(known.code, known.message, retry))
                return
            stopped_by = "timeout" if isinstance(error, TimeoutError) else "error"
            answer = Answer(said, None, stopped_by, error=known.message)
        await self._stream.give(answer.said)
        reason = "partial" if answer.error else answer.said.finish or "stop"
        await self._end(Finished(reason, Usage(0, 0)), answer)

    async def _end(self, last: Finished | Failed, answer: Answer | None = None) -> None:
        """Store the end of the run, and write its last frame with the usage of all calls."""
        steps = await in_database(rows.steps_of, self._header.id)
        usage, summary = summary_of(self._cast, steps, self._notices, answer)
        state = OrchestrationRun.State.FINISHED
        if isinstance(last, Failed):
            state = OrchestrationRun.State.FAILED
            last = msgspec.structs.replace(last, usage=usage)
        else:
            if last.reason == "cancelled":
                summary["orchestration"]["stopped_by"] = "cancelled"
            reasons = {"cancelled": "cancelled", "partial": "partial"}
            state = OrchestrationRun.State(reasons.get(last.reason, "finished"))
            last = msgspec.structs.replace(last, usage=usage, summary=summary)
        code = last.code if isinstance(last, Failed) else ""
        kept = summary.get("orchestration", {})
        await self._stream.write(last)
        await in_database(rows.end_run, self._header.id, state, kept, code)

    async def complete(self, call: Call, *, is_answer: bool = False) -> Said:
        """See ``Stage``. An outcome that is stored already is given again."""
        _check_cancelled()
        run_id = self._header.id
        step, said = await in_database(rows.begin_step, run_id, call, new_run_id("chat"))
        if said is None:
            said = await self._tried(call, step, is_answer)
        self._has_spoken(call.member.spec.version_key)
        if is_answer:
            await self._stream.give(said)
        return said

    async def _tried(self, call: Call, step: RunStep, is_answer: bool) -> Said:
        """The outcome of a call; one that failed for the moment is made again.

        A text that the client has is not written anew.
        """
        while True:
            said = await self._said(call, step, is_answer)
            await in_database(rows.end_step, step, said)
            await self._stream.tell(
                "step_end",
                step=call.key,
                attempt=step.attempt,
                finish=said.finish or None,
                error=said.error_code or None,
                usage={
                    "prompt_tokens": said.prompt_tokens,
                    "completion_tokens": said.completion_tokens,
                    "cached_tokens": said.cached_tokens,
                },
            )
            passes = bool(said.error_code) and isinstance(said.error, RetriableError)
            was_given = is_answer and said.text
            if not passes or was_given or step.attempt >= _RETRIES:
                return said
            pause = said.retry_after_seconds or 1.0
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
            number = step.attempt + 1
            identity = new_run_id("chat")
            step = await in_database(rows.new_attempt, self._header.id, call, identity, number)

    async def _said(self, call: Call, step: RunStep, is_answer: bool) -> Said:
        spec, heard = call.member.spec, list[Delta]()
        run: Run | None = None
        await self._stream.tell(
            "step_start",
            phase=call.phase,
            round=call.round,
            step=call.key,
            attempt=step.attempt,
            member=call.member.index,
            role=call.member.participant,
            model=spec.model_slug,
        )
        try:
            made = await chat_order(runtime(), call.request, spec)
            order = replace(made, run_id=step.generation_id)
            async with left_surely(self._onward(order, self._principal)) as run:
                async for _, frame in run.frames():
                    _check_cancelled()
                    if isinstance(frame, Started):
                        await self._stream.start(frame)
                    elif isinstance(frame, Failed):
                        raise failure_of(frame)
                    elif isinstance(frame, Delta):
                        heard.append(frame)
                        await self._hear(step, heard, is_answer)
        except InferenceError as error:
            retry = error.retry_after_ms / 1000 if isinstance(error, RetriableError) else None
            failed = _said(call, heard, run)
            return msgspec.structs.replace(
                failed,
                error_code=error.code,
                error_message=f"{spec.model_slug}: {error.message}",
                retry_after_seconds=retry,
            )
        except asyncio.CancelledError:
            if self._is_stopping or self._deadline.expired():
                await in_database(rows.end_step, step, _said(call, heard, run))
            raise
        said = _said(call, heard, run)
        if said.finish == "cancelled":
            # A process that ended in order has stopped the call: it may be made again.
            text = f"{spec.model_slug}: The call was stopped."
            return msgspec.structs.replace(
                said, finish="", error_code=HostLostError.default_code, error_message=text
            )
        return said

    async def _hear(self, step: RunStep, heard: Sequence[Delta], is_answer: bool) -> None:
        """Pass on the newest part of the text of a call."""
        if is_answer:
            await self._stream.give_part(step.key, len(heard), heard[-1])
        elif text := heard[-1].text:
            await self._stream.tell("step_text", step=step.key, attempt=step.attempt, text=text)

    async def together(self, calls: Sequence[Call]) -> list[Said]:
        """See ``Stage``."""
        firsts: list[Call] = []
        for call in calls:
            if _twin(call, firsts) is None:
                firsts.append(call)
        # A member that is not in memory is asked when the others have spoken: only then it is known
        # whose place it may take, and the others are not evicted before their calls.
        present = [call for call in firsts if await is_ready(call.member.spec)]
        absent = [call for call in firsts if call not in present]
        outcomes = [*await self._at_once(present), *await self._at_once(absent)]
        said = {outcome.key: outcome for outcome in outcomes}
        return [
            msgspec.structs.replace(said[twin.key], member=call.member.index)
            for call in calls
            if (twin := _twin(call, firsts)) is not None
        ]

    async def _at_once(self, calls: Sequence[Call]) -> list[Said]:
        """The outcomes of calls; before this raises, all calls have ended."""
        tasks = [asyncio.create_task(self.complete(call)) for call in calls]
        try:
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    def foresee(self, *phases: Sequence[Member]) -> None:
        """See ``Stage``."""
        self._phases = [[member.spec.version_key for member in phase] for phase in phases]
        self._relay.phases_until_use = _phases_until_use(self._phases)

    def _has_spoken(self, version_key: str) -> None:
        """Note that a member of the present phase is not needed before the next one."""
        if self._phases and version_key in self._phases[0]:
            self._phases[0].remove(version_key)
            self._relay.phases_until_use = _phases_until_use(self._phases)

    async def end_phase(self, phase: str, number: int, **facts: Any) -> None:
        """See ``Stage``."""
        await self._stream.tell("phase_end", phase=phase, round=number, **facts)

    async def notice(self, code: str, **facts: Any) -> None:
        """See ``Stage``."""
        self._notices.append({"code": code, **facts})
        await self._stream.tell("notice", code=code, **facts)

    async def fitted(self, member: Member, request: ChatRequest, texts: Sequence[str]) -> list[str]:
        """See ``Stage``."""
        self._handoffs += 1
        key = f"z{self._handoffs}."
        short = await fitted(self, member, request, texts, key)
        for one in short:
            if one.after < one.before:
                facts = {"before": one.before, "after": one.after, "rewritten": one.iterations}
                await self.notice("compressed", model=member.spec.model_slug, **facts)
        return [one.text for one in short]

    async def vectors(self, texts: Sequence[str]) -> dict[str, Vector] | None:
        """See ``Stage``."""
        name = runtime().settings.cache_embedder
        if not name or not texts:
            return None
        try:
            embedder = await runtime().resolver.resolve(name, "embedding")
            return await vectors_of(embedder, texts, self._principal)
        except (InferenceError, RedisError) as error:
            logger.warning("agreement is not measured: %s", error)
            return None


def _check_cancelled() -> None:
    """Raise ``CancelledError`` if redis-py made an error or an answer of the one of this task."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError


def _said(call: Call, heard: Sequence[Delta], run: Run | None) -> Said:
    """The outcome of a call by the parts of its text and its run, which is over."""
    usage = run.usage if run else Usage(0, 0)
    last = run and run.choices[0].finished
    failed = run and run.choices[0].failed
    if failed and failed.usage:
        usage = failed.usage
    return Said(
        call.key,
        call.member.index,
        "".join(frame.text for frame in heard),
        last.reason if last else "",
        frames=[encode(frame) for frame in heard],
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        context_tokens=call.member.spec.sequence_limit_tokens,
    )


def _phases_until_use(phases: Sequence[Sequence[str]]) -> dict[str, int]:
    """Phases until the next call of each version that some phase names."""
    needed: dict[str, int] = {}
    for count, versions in enumerate(phases):
        for version_key in versions:
            needed.setdefault(version_key, count)
    return needed


def _twin(call: Call, others: Sequence[Call]) -> Call | None:
    """The call among ``others`` that has the same answer, or None."""
    for other in others:
        one, two = (msgspec.structs.replace(each.request, seed=None) for each in (call, other))
        same = one == two and call.member.spec.version_key == other.member.spec.version_key
        if other.key == call.key or (same and is_greedy(call.request, call.member)):
            return other
    return None
