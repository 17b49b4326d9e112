"""Creates the prompts and arrival times of a run; pure, and equal for equal keys.

Every prompt is cold: its first words are drawn for one run and request, and a shared prefix for one
run, so that a server's cache of earlier runs does not apply.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from inference_site.tools.bench.load import Load
from inference_site.tools.bench.words import WORDS

OPENING_WORDS = 6
# Of the tried instructions, small models at temperature 0 answer this one at the greatest length.
INSTRUCTION = "Write a numbered list of one hundred sentences about these words."
INSTRUCTION_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of one simulated user.

    Args:
        system: text of the system message.
        user_messages: one text for each turn.
        arrival_seconds: seconds from the start of the run; None in a closed loop.
    """

    system: str
    user_messages: tuple[str, ...]
    arrival_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PlanKey:
    """The source of the words of a run.

    Args:
        seed: the user's ``--seed``.
        nonce: new for every invocation, so that no run repeats the prompts of an earlier one.
        part: the run inside the invocation, such as ``pair-3``.
    """

    seed: int
    nonce: str
    part: str

    def stream(self, purpose: str) -> random.Random:
        """Return a random generator for one purpose; the same key gives the same numbers."""
        return random.Random(f"{self.seed}/{self.nonce}/{self.part}/{purpose}")  # noqa: S311


def arrival_times(rate_per_second: float, number: int, source: random.Random) -> list[float]:
    """Arrivals of a Poisson process: independent, exponentially distributed gaps.

    Args:
        rate_per_second: mean arrivals a second.
        number: how many arrivals.
        source: where the randomness comes from.

    Returns:
        Seconds from the start of the run, ascending; the first arrival is at 0.
    """
    times: list[float] = []
    now = 0.0
    for _ in range(number):
        times.append(now)
        now += source.expovariate(rate_per_second)
    return times


def conversations(load: Load, key: PlanKey) -> list[Conversation]:
    """The measured conversations of a run, in the order in which they start."""
    prefixes = [
        _shared_prefix(load.shared_prefix_tokens, key.stream(f"prefix-{index}"))
        for index in range(load.prefixes if load.shared_prefix_tokens else 0)
    ]
    personas = _personas(load.conversations, len(prefixes), key.stream("personas"))
    made = [
        _conversation(load, key.stream(f"conversation-{index}"), prefixes[persona])
        if prefixes
        else _conversation(load, key.stream(f"conversation-{index}"), None)
        for index, persona in enumerate(personas)
    ]
    if load.arrival_rate_per_second is None:
        return made
    # Independent of the nonce: bursts of arrivals affect a run more than any other random number,
    # and must be equal in two invocations with one seed.
    source = random.Random(f"{load.arrival_rate_per_second}/{key.seed}/arrivals")  # noqa: S311
    times = arrival_times(load.arrival_rate_per_second, len(made), source)
    return [replace(item, arrival_seconds=at) for item, at in zip(made, times, strict=True)]


def warmup_conversations(load: Load, key: PlanKey) -> list[Conversation]:
    """Unmeasured conversations of one turn each, which share nothing with the measured ones."""
    if not load.warmup:
        return []
    warm = replace(
        load,
        requests=load.warmup,
        turns=1,
        concurrency=min(load.concurrency or 1, load.warmup),
        arrival_rate_per_second=None,
        background=None,
        swapped_models=(),
    )
    return conversations(warm, replace(key, part=f"{key.part}/warmup"))


def background_conversations(prompt_tokens: int, key: PlanKey) -> Iterator[Conversation]:
    """Endless unshared conversations of one turn."""
    for index in count():
        source = key.stream(f"background-{index}")
        yield Conversation(
            _words(source, OPENING_WORDS), (_user_message(source, prompt_tokens - OPENING_WORDS),)
        )


def _personas(number: int, prefixes: int, source: random.Random) -> list[int]:
    """Return the prefix of each conversation: all equally often, in random order."""
    if not prefixes:
        return [0] * number
    dealt = [index % prefixes for index in range(number)]
    source.shuffle(dealt)
    return dealt


def _conversation(load: Load, source: random.Random, prefix: str | None) -> Conversation:
    """Create one conversation; without a shared prefix, the system message has its first words.

    Many chat templates add a default system message where there is none, and that would be a
    prefix that all conversations share.
    """
    if prefix is not None:
        first = _user_message(source, load.prompt_tokens)
        system = prefix
    else:
        system = _words(source, OPENING_WORDS)
        first = _user_message(source, load.prompt_tokens - OPENING_WORDS)
    later = (_user_message(source, load.prompt_tokens) for _ in range(load.turns - 1))
    return Conversation(system, (first, *later))


def _shared_prefix(tokens: int, source: random.Random) -> str:
    return _words(source, tokens)


def _user_message(source: random.Random, tokens: int) -> str:
    """Return random words and then the instruction, which first would be a shared beginning."""
    return f"{_words(source, tokens - INSTRUCTION_TOKENS - 1)}. {INSTRUCTION}"


def _words(source: random.Random, number: int) -> str:
    return " ".join(source.choices(WORDS, k=number))
