"""An order: everything about a request that can change its answer or its place in the queue."""

from dataclasses import dataclass, field
from typing import Protocol

from inference.conf import InferenceSettings
from inference.messages import Kind, SamplingParameters
from inference.orders.cache_policy import CachePolicy
from inference.orders.cast import Cast
from inference.orders.requests import ChatRequest, CompletionRequest
from inference.orders.resolution import Resolver
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec


class OrderResources(Protocol):
    """The parts of this process that turn requests into orders."""

    settings: InferenceSettings
    tokenizer: Tokenizer
    resolver: Resolver


@dataclass(frozen=True)
class Order:
    """The prompts to answer and how; it is known to fit the version ``spec``.

    ``priority``, ``keep_alive_seconds``, ``end_user``, ``include_usage`` and ``ignored`` do not
    change the answer; all other fields may.

    Attributes:
        prompts: token ids. Each is answered ``n`` times, choices numbered prompt by prompt; for
            embeddings all of them are the texts of one choice.
        request: the request it was made from, to make it again for another version; None for
            embeddings.
        grammar: a grammar that answers must match, checked by ``Tokenizer.check_grammar``; "" for
            none.
        call_syntax: as in ``RunHeader``.
        end_user: the person for whom the caller asks, for the record.
        run_id: id of the answer, set when the order is accepted. A step that orders again for the
            same answer keeps it and raises ``attempt``.
        ledger_day: the UTC day on which it was accepted, as ``metrics.ledger.store.day_number``.
        ignored: names of the parts of the request that have no effect.
        cast: the members of a run of several models; None where ``spec`` alone answers. With it
            ``prompts`` has no token, and ``spec`` is the version that writes the answer.
    """

    kind: Kind
    spec: ModelSpec
    prompts: list[list[int]]
    request: ChatRequest | CompletionRequest | None = None
    max_tokens: int = 0
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    n: int = 1
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    priority: int = 2
    ignore_eos: bool = False
    end_user: str = ""
    include_usage: bool = False
    grammar: str = ""
    call_syntax: str = ""
    keep_alive_seconds: float | None = None
    ignored: tuple[str, ...] = ()
    cache: CachePolicy = field(default_factory=CachePolicy)
    run_id: str = ""
    attempt: int = 0
    ledger_day: int = 0
    cast: Cast | None = None

    @property
    def choices(self) -> int:
        """Number of token streams that answer it."""
        return 1 if self.kind == "embedding" else len(self.prompts) * self.n
