"""Speculative decoding: decide how many drafted tokens each step computes.

Drafted tokens make a step longer and, where they are right, save steps. The best number gives the
most useful tokens per second of step time: next to none where each token of a batch costs as much
as a step, many where a batch costs hardly more than one token. The probability that drafts are
right is learnt while they are checked. No clock is read here: times come from ``step_seconds``.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace

from inference.engine.config import EngineConfig
from inference.engine.drafting.acceptance import GradeAcceptance, SequenceAcceptance
from inference.engine.drafting.drafter import Draft, Drafter, DraftRequest
from inference.engine.sequence import Sequence

# Guesses must gain this many times the tokens that could be computed in the time they take: the
# estimate is not exact, and the best of several estimates looks better than it is.
MIN_RETURN = 1.3
# Less likely guesses are never computed, because step times are uncertain.
MIN_CHANCE = 0.02
# One step in this many with guesses runs without any, so that the time of such a step stays known.
CONTROL_EVERY_STEPS = 50
# While guesses do not pay, this share of the step time is spent on probes of PROBE_TOKENS guesses.
# Otherwise one wrong step time, or a text without repetition, would turn guesses off for ever.
PROBE_SHARE = 0.01
PROBE_TOKENS = 2
MIN_PROBE_CHANCE = 0.3


class Speculation:
    """Drafts for the decoding sequences of an engine; stops by itself where it does not pay."""

    def __init__(
        self, drafter: Drafter, config: EngineConfig, step_seconds: Callable[[int], float]
    ) -> None:
        self._drafter = drafter
        self._max_tokens = config.max_draft_tokens
        self._max_sequences = config.max_drafting_sequences
        self._step_seconds = step_seconds
        self._average = GradeAcceptance(drafter.top_grade)
        self._sequences: dict[Hashable, SequenceAcceptance] = {}
        self._unchecked: dict[Hashable, Draft] = {}
        self._steps_with_drafts = 0
        self._probe_seconds = 0.0

    def draft_behind(self, chunks: list[tuple[Sequence, int]], room_tokens: int) -> list[list[int]]:
        """Tokens to compute behind each chunk of a step, at most ``room_tokens``; mostly none."""
        drafts: list[list[int]] = [[] for _ in chunks]
        decoding = [i for i, (sequence, _) in enumerate(chunks) if sequence.is_decoding]
        if not 0 < len(decoding) <= self._max_sequences:
            return drafts
        requests = [
            DraftRequest(sequence.id, sequence.token_ids, sequence.remaining_tokens - 1)
            for sequence in (chunks[index][0] for index in decoding)
        ]
        prompt_tokens = sum(count for _, count in chunks) - len(decoding)
        proposed = self.draft(requests, prompt_tokens, room_tokens)
        for index, draft in zip(decoding, proposed, strict=True):
            drafts[index] = draft
        return drafts

    def draft(
        self, requests: list[DraftRequest], prompt_tokens: int, room_tokens: int
    ) -> list[list[int]]:
        """The guesses of the next step for each request, at most ``room_tokens`` together."""
        self._unchecked.clear()
        if not requests:
            return []
        for request in requests:
            self._sequences.setdefault(request.key, SequenceAcceptance(self._average))
        limited = [replace(r, tokens=min(r.tokens, self._max_tokens)) for r in requests]
        useful_tokens = len(requests) + prompt_tokens
        self._probe_seconds += PROBE_SHARE * self._step_seconds(useful_tokens)
        asked = limited if self._drafter.is_free else self._worth_asking(limited, useful_tokens)
        drafts = self._drafter.propose(asked)
        self._unchecked = {r.key: d for r, d in zip(asked, drafts, strict=True) if d.token_ids}
        counts = self._worth_computing(useful_tokens, room_tokens)
        return [
            self._unchecked[request.key].token_ids[: counts[request.key]]
            if request.key in counts
            else []
            for request in requests
        ]

    def observe(self, key: Hashable, sampled: list[int]) -> None:
        """Learn from the tokens that a sequence gained after ``draft``."""
        draft = self._unchecked.pop(key, None)
        if draft is not None:
            # Includes guesses that were not computed: this shows when they become worth computing.
            self._sequences[key].observe(draft.grades, draft.token_ids, sampled)

    def forget(self, key: Hashable) -> None:
        self._sequences.pop(key, None)
        self._unchecked.pop(key, None)
        self._drafter.forget(key)

    def _worth_asking(self, requests: list[DraftRequest], useful_tokens: int) -> list[DraftRequest]:
        """The requests whose guesses pay for the drafter's time too, cut to the best length."""

        def seconds(tokens: int, depth: int) -> float:
            # A sequence whose guesses were all right has two tokens to begin with instead of one.
            sequences = -(-tokens // depth) if depth else 0
            drafting_seconds = self._drafter.seconds(tokens + sequences, depth)
            return self._step_seconds(useful_tokens + tokens) + drafting_seconds

        chances = [
            [self._sequences[request.key].mean_chance] * request.tokens for request in requests
        ]
        limit = sum(request.tokens for request in requests)
        counts = best_counts(chances, useful_tokens, limit, seconds)
        if any(counts):
            return [
                replace(request, tokens=count)
                for request, count in zip(requests, counts, strict=True)
                if count
            ]
        shortest = min(requests, key=lambda request: len(request.token_ids))
        probe = replace(shortest, tokens=min(shortest.tokens, PROBE_TOKENS))
        cost = self._drafter.seconds(len(probe.token_ids) + probe.tokens, probe.tokens)
        return [probe] if probe.tokens and self._pay_for_probe(cost) else []

    def _worth_computing(self, useful_tokens: int, room_tokens: int) -> dict[Hashable, int]:
        keys = list(self._unchecked)
        chances = [self._sequences[key].chances(self._unchecked[key].grades) for key in keys]
        counts = best_counts(
            chances,
            useful_tokens,
            room_tokens,
            lambda tokens, _depth: self._step_seconds(useful_tokens + tokens),
        )
        if any(counts):
            self._steps_with_drafts += 1
            is_control = self._steps_with_drafts % CONTROL_EVERY_STEPS == 0
            return {} if is_control else dict(zip(keys, counts, strict=True))
        if not keys or room_tokens < PROBE_TOKENS:
            return {}
        best = max(range(len(keys)), key=lambda index: chances[index][0])
        price = self._step_seconds(useful_tokens + PROBE_TOKENS) - self._step_seconds(useful_tokens)
        if chances[best][0] < MIN_PROBE_CHANCE or not self._pay_for_probe(price):
            return {}
        return {keys[best]: PROBE_TOKENS}

    def _pay_for_probe(self, seconds: float) -> bool:
        if seconds > self._probe_seconds:
            return False
        self._probe_seconds -= seconds
        return True


def best_counts(
    chances: list[list[float]],
    useful_tokens: int,
    room_tokens: int,
    seconds: Callable[[int, int], float],
) -> list[int]:
    """Numbers of guesses per sequence that give the most useful tokens per second.

    A guess is useful if it and all before it are right. Guesses are therefore taken in the order of
    that probability, over all sequences, and only their total has to be found.

    Args:
        chances: for each sequence the probability of each guess, given the ones before it.
        useful_tokens: of the step without guesses; ``room_tokens`` limits the guesses.
        seconds: time of a step, given the number of guesses and the most for one sequence.
    """
    ranked: list[tuple[float, int, int]] = []
    for sequence, sequence_chances in enumerate(chances):
        survival = 1.0
        for depth, chance in enumerate(sequence_chances, start=1):
            survival *= chance
            if survival < MIN_CHANCE:
                break
            ranked.append((-survival, depth, sequence))
    ranked.sort()
    plain_rate = useful_tokens / seconds(0, 0)
    best_rate, best_total = plain_rate, 0
    expected, deepest = float(useful_tokens), 0
    for total, (negative_survival, depth, _) in enumerate(ranked[:room_tokens], start=1):
        expected -= negative_survival
        deepest = max(deepest, depth)
        step_seconds = seconds(total, deepest)
        gained = expected - useful_tokens
        worth = plain_rate * step_seconds - useful_tokens
        if expected / step_seconds > best_rate and gained >= MIN_RETURN * worth:
            best_rate, best_total = expected / step_seconds, total
    counts = [0] * len(chances)
    for _, _, sequence in ranked[:best_total]:
        counts[sequence] += 1
    return counts
