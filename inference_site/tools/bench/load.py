"""The description of a load: number, lengths, shared prefixes and arrivals of requests."""

from dataclasses import dataclass
from typing import Literal

Endpoint = Literal["chat", "completions"]

# The unique first words and the instruction of every prompt.
MINIMUM_PROMPT_TOKENS = 24
# An estimate of the tokens that a chat template adds to a conversation.
TEMPLATE_TOKENS = 32


class LoadError(ValueError):
    """The load is inconsistent; the message says which option to change."""


@dataclass(frozen=True, slots=True)
class Background:
    """Generations that are kept running, unmeasured, while the measured requests arrive.

    Args:
        concurrency: how many run or wait at any moment.
        prompt_tokens: length of each prompt.
        output_tokens: the longest output; each request has between half of it and all of it, so
            that they do not end together.
        priority: the API's ``priority`` (1 low, 2 normal, 3 high), or None to send none.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    priority: int | None


@dataclass(frozen=True, slots=True)
class Load:
    """One measured load.

    Args:
        name: the preset's name, or ``custom``.
        requests: how many requests are measured, all turns of all conversations counted.
        concurrency: closed loop: conversations held at a time; None exactly when
            ``arrival_rate_per_second`` is set.
        arrival_rate_per_second: open loop: mean rate of a Poisson process of conversations.
        prompt_tokens: length of each user message, shared with no other request.
        output_tokens: ``max_tokens`` of each request.
        shared_prefix_tokens: length of the system message that requests of one persona share.
        prefixes: number of personas, that is of different shared prefixes.
        turns: user messages in each conversation; the answers become part of the prompt.
        priority: the API's ``priority`` of the measured requests, or None to send none.
        endpoint: chat or text completions.
        stream: whether answers are streamed.
        warmup: requests of the same shape sent first and not measured.
        temperature: sampling temperature; 0 is greedy.
        background: generations that run at the same time, or None.
        swapped_models: models that are loaded and unloaded during the run, one after the other,
            without a pause.

    Raises:
        LoadError: the numbers contradict each other.
    """

    name: str = "custom"
    requests: int = 32
    concurrency: int | None = 8
    arrival_rate_per_second: float | None = None
    prompt_tokens: int = 60
    output_tokens: int = 64
    shared_prefix_tokens: int = 0
    prefixes: int = 1
    turns: int = 1
    priority: int | None = None
    endpoint: Endpoint = "chat"
    stream: bool = True
    warmup: int = 2
    temperature: float = 0.0
    background: Background | None = None
    swapped_models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_combinations()

    def _check_numbers(self) -> None:
        at_least = {
            "requests": 1,
            "prompt_tokens": MINIMUM_PROMPT_TOKENS,
            "output_tokens": 1,
            "shared_prefix_tokens": 0,
            "prefixes": 1,
            "turns": 1,
            "warmup": 0,
        }
        for field, minimum in at_least.items():
            if getattr(self, field) < minimum:
                raise LoadError(f"--{field.replace('_', '-')} must be at least {minimum}.")
        if self.concurrency is not None and self.concurrency < 1:
            raise LoadError("--concurrency must be at least 1.")
        if self.arrival_rate_per_second is not None and self.arrival_rate_per_second <= 0:
            raise LoadError("--arrival-rate must be more than 0 requests a second.")
        if not 0 <= self.temperature <= 2:
            raise LoadError("--temperature must be between 0 and 2.")
        if self.priority is not None and self.priority not in (1, 2, 3):
            raise LoadError("--priority must be 1 (low), 2 (normal) or 3 (high).")

    def _check_combinations(self) -> None:
        if (self.concurrency is None) == (self.arrival_rate_per_second is None):
            raise LoadError(
                "Give --concurrency (closed loop) or --arrival-rate (open loop), not both."
            )
        if self.requests % self.turns:
            raise LoadError(
                f"--requests {self.requests} does not divide into conversations of "
                f"{self.turns} turns."
            )
        if self.prefixes > 1 and not self.shared_prefix_tokens:
            raise LoadError("--prefixes needs --shared-prefix-tokens.")
        if self.shared_prefix_tokens and self.shared_prefix_tokens < MINIMUM_PROMPT_TOKENS:
            raise LoadError(
                f"--shared-prefix-tokens must be 0 or at least {MINIMUM_PROMPT_TOKENS}."
            )
        if self.endpoint == "completions" and self.turns > 1:
            raise LoadError("--turns needs --endpoint chat.")

    @property
    def conversations(self) -> int:
        """How many conversations the requests make up."""
        return self.requests // self.turns

    @property
    def longest_conversation_tokens(self) -> int:
        """KV cells that one conversation may come to fill, sharing nothing."""
        own = self.turns * (self.prompt_tokens + self.output_tokens + TEMPLATE_TOKENS)
        return self.shared_prefix_tokens + own

    @property
    def peak_tokens(self) -> int | None:
        """KV cells that the whole closed loop may come to fill; None in an open loop."""
        if self.concurrency is None:
            return None
        background = self.background
        meanwhile = 0
        if background is not None:
            length = background.prompt_tokens + background.output_tokens + TEMPLATE_TOKENS
            meanwhile = background.concurrency * length
        return self.concurrency * self.longest_conversation_tokens + meanwhile

    def requested_prompt_tokens(self, turn: int) -> int:
        """Prompt length asked for at a turn (from 0), without what the chat template adds."""
        history = turn * (self.prompt_tokens + self.output_tokens)
        return self.shared_prefix_tokens + history + self.prompt_tokens


LOADS: dict[str, Load] = {
    load.name: load
    for load in (
        Load(name="unshared-8", requests=24, warmup=8),
        Load(name="shared-8", requests=8, shared_prefix_tokens=400, prompt_tokens=32),
        Load(
            name="shared-16",
            requests=16,
            concurrency=16,
            shared_prefix_tokens=400,
            prompt_tokens=32,
        ),
        Load(
            name="personas",
            requests=24,
            shared_prefix_tokens=300,
            prefixes=4,
            prompt_tokens=32,
        ),
        Load(name="multi-turn", requests=48, turns=6, prompt_tokens=40, output_tokens=48),
        Load(name="single", requests=8, concurrency=1),
        Load(
            name="interactive",
            requests=16,
            concurrency=None,
            arrival_rate_per_second=0.5,
            output_tokens=16,
            priority=3,
            background=Background(concurrency=32, prompt_tokens=60, output_tokens=96, priority=1),
        ),
        Load(
            name="swaps",
            requests=120,
            concurrency=2,
            prompt_tokens=32,
            output_tokens=16,
            swapped_models=("gemma3-270m", "qwen2.5-coder-0.5b"),
        ),
    )
}
"""The named loads of ``docs/performance.md``; ``--load NAME`` takes one, options change it."""
