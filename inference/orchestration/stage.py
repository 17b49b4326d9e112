"""Calls of a run of several models, their outcomes, and the stage on which a mode makes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from inference.errors import InferenceError, OrchestrationFailedError, error_from_code
from inference.messages import FinishReason
from inference.orders.cast import Member
from inference.orders.requests import ChatRequest

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Call:
    """A request to one member.

    Attributes:
        key: names the call in its run; a run that goes on after its process died makes the same
            calls with the same keys.
        phase: for people, such as ``critique``.
    """

    key: str
    phase: str
    round: int
    member: Member
    request: ChatRequest


class Said(msgspec.Struct, frozen=True):
    """The outcome of a call; a failure may have a beginning of the text.

    ``frames`` are its encoded ``Delta`` frames, ``prompt_tokens`` and ``completion_tokens`` its
    usage; ``context_tokens`` is the limit of the member's context.
    """

    key: str
    member: int
    text: str = ""
    finish: FinishReason | Literal[""] = ""
    error_code: str = ""
    error_message: str = ""
    retry_after_seconds: float | None = None
    frames: list[bytes] = []
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    context_tokens: int = 0

    @property
    def is_usable(self) -> bool:
        """Tell whether it is a whole answer with words in it."""
        return not self.error_code and bool(self.text.strip())

    @property
    def error(self) -> InferenceError:
        """The error of a call that is not usable."""
        if not self.error_code:
            return OrchestrationFailedError(f"The call {self.key} has given no text.")
        return error_from_code(self.error_code, self.error_message, self.retry_after_seconds)


@dataclass(frozen=True)
class Answer:
    """The outcome of a run.

    Attributes:
        said: the call whose text is the answer.
        rounds: critiques, or rounds of answers, or stages; None where the run was cut.
        stopped_by: the reason for the end, such as ``threshold``.
        confidence: 0 to 1, by ``confidence_method``; None where nothing measured it.
        error: why the mode did not come to its end; "" where it did. Then the answer is partial.
        facts: further fields of ``orchestration`` in the response.
    """

    said: Said
    rounds: int | None
    stopped_by: str
    confidence: float | None = None
    confidence_method: str = ""
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """Makes the calls of a mode, which has no clock and no randomness: it can be repeated."""

    run_id: str

    async def complete(self, call: Call, *, is_answer: bool = False) -> Said:
        """The outcome of a call; the text of the answer is given to the client as it comes."""

    async def together(self, calls: Sequence[Call]) -> list[Said]:
        """The outcomes of calls that are made at once; equal ones are made once."""

    def foresee(self, *phases: Sequence[Member]) -> None:
        """Tell who speaks in the present phase, in the next one, and so on."""

    async def end_phase(self, phase: str, number: int, **facts: Any) -> None:
        """Tell the client the outcome of a phase in round ``number``."""

    async def notice(self, code: str, **facts: Any) -> None:
        """Tell the client, and note for the summary, about a deviation."""

    async def fitted(self, member: Member, request: ChatRequest, texts: Sequence[str]) -> list[str]:
        """Texts of members without thoughts, shortened to their room in ``request`` to a member.

        Raises:
            CompressionFailedError: one cannot be shortened so far.
        """

    async def vectors(self, texts: Sequence[str]) -> dict[str, Vector] | None:
        """Unit vectors of texts; None where no embedder is in memory."""
