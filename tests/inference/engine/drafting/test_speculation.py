"""How many guesses a step takes: many where they pay, none where they do not."""

import random
from collections.abc import Callable, Hashable

import pytest

from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Draft, DraftRequest
from inference.engine.drafting.speculation import (
    CONTROL_EVERY_STEPS,
    PROBE_SHARE,
    PROBE_TOKENS,
    Speculation,
    best_counts,
)

RIGHT, WRONG = 1, 2
MAX_TOKENS = 8
CONFIG = EngineConfig(kv_cells=1, max_sequences=1, max_draft_tokens=MAX_TOKENS)

# Seconds of a step by tokens, as measured: two CPU cores, where each token of a batch costs about
# half a step of one, and a GPU, where it costs next to nothing.
CPU = lambda tokens: 0.0031 + 0.0029 * tokens  # noqa: E731
GPU = lambda tokens: 0.010 + 0.00002 * tokens  # noqa: E731


class ScriptedDrafter:
    """Guesses ``RIGHT`` as often as asked, all of one grade."""

    top_grade = 0

    def __init__(self, round_seconds: float = 0.0) -> None:
        self.is_free = not round_seconds
        self.round_seconds = round_seconds
        self.asked: list[DraftRequest] = []
        self.forgotten: list[Hashable] = []

    def seconds(self, tokens: int, rounds: int) -> float:
        """Every round takes the same time, and each token a tenth of it."""
        return self.round_seconds * (rounds + 0.1 * tokens)

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """A draft of the requested length."""
        self.asked += requests
        return [Draft([RIGHT] * each.tokens, [0] * each.tokens) for each in requests]

    def forget(self, key: Hashable) -> None:
        """Remember it."""
        self.forgotten.append(key)


def decode(
    drafter: ScriptedDrafter,
    seconds: Callable[[int], float],
    chance: float,
    *,
    sequences: int = 1,
    steps: int = 400,
) -> tuple[float, float]:
    """Seconds per token of an endless text whose guesses are right so often; guesses per token."""
    speculation = Speculation(drafter, CONFIG, seconds)
    draw = random.Random(1)
    elapsed, tokens, drafted = 0.0, 0, 0
    for _ in range(steps):
        requests = [DraftRequest(key, [0] * 10, MAX_TOKENS) for key in range(sequences)]
        asked_before = len(drafter.asked)
        drafts = speculation.draft(requests, 0, 10_000)
        asked = [each.tokens for each in drafter.asked[asked_before:]]
        elapsed += seconds(sequences + sum(map(len, drafts)))
        elapsed += drafter.seconds(sum(asked), max(asked, default=0))
        for key, draft in enumerate(drafts):
            sampled: list[int] = []
            while not sampled or (sampled[-1] == RIGHT and len(sampled) <= len(draft)):
                sampled.append(RIGHT if draw.random() < chance else WRONG)
            speculation.observe(key, sampled)
            tokens += len(sampled)
            drafted += len(draft)
    return elapsed / tokens, drafted / tokens


@pytest.mark.parametrize("seconds", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("sequences", [1, 4, 16])
@pytest.mark.parametrize("round_seconds", [0.0, 0.001], ids=["lookup", "model"])
def test_speculation_that_never_hits_costs_nothing(
    seconds: Callable[[int], float], sequences: int, round_seconds: float
):
    drafter = ScriptedDrafter(round_seconds)
    per_token, _ = decode(drafter, seconds, 0.0, sequences=sequences)
    assert per_token < 1.03 * seconds(sequences) / sequences


@pytest.mark.parametrize(
    ("seconds", "chance", "share_saved"),
    [(CPU, 0.8, 0.15), (CPU, 0.95, 0.3), (GPU, 0.4, 0.3), (GPU, 0.8, 0.7)],
)
def test_speculation_that_hits_saves_time(
    seconds: Callable[[int], float], chance: float, share_saved: float
):
    per_token, _ = decode(ScriptedDrafter(), seconds, chance)
    assert per_token < (1 - share_saved) * seconds(1)


def test_speculation_takes_few_guesses_where_a_batch_is_dear_and_many_where_it_is_cheap():
    _, dear = decode(ScriptedDrafter(), CPU, 0.4)
    _, cheap = decode(ScriptedDrafter(), GPU, 0.4)
    assert dear < 0.1 < 1 < cheap


def test_speculation_weighs_the_draft_models_own_time():
    quick, _ = decode(ScriptedDrafter(0.0005), GPU, 0.6)
    slow, drafted = decode(ScriptedDrafter(0.02), GPU, 0.6)
    assert quick < 0.7 * GPU(1)
    assert slow < 1.05 * GPU(1)
    assert drafted < 0.05


def test_speculation_that_did_not_pay_is_taken_up_again_when_it_does():
    drafter = ScriptedDrafter()
    speculation = Speculation(drafter, CONFIG, CPU)
    request = DraftRequest("s", [0] * 10, MAX_TOKENS)

    def step(truth: int) -> int:
        (draft,) = speculation.draft([request], 0, 100)
        speculation.observe("s", [truth] * (len(draft) + 1))
        return len(draft)

    assert [step(WRONG) for _ in range(20)][-1] == 0
    assert max(step(RIGHT) for _ in range(40)) > 0


def test_speculation_tries_a_draft_model_again_for_a_small_share_of_the_time():
    drafter = ScriptedDrafter(round_seconds=0.001)
    decode(drafter, CPU, 0.0, steps=2000)
    tried = sum(
        drafter.seconds(len(each.token_ids) + each.tokens, each.tokens)
        for each in drafter.asked[20:]
    )
    assert 0 < tried <= 1.1 * PROBE_SHARE * 2000 * CPU(1)


def test_speculation_prefers_the_sequence_whose_guesses_are_right():
    speculation = Speculation(ScriptedDrafter(), CONFIG, CPU)
    requests = [DraftRequest(key, [0] * 10, MAX_TOKENS) for key in ("good", "bad")]
    for _ in range(30):
        good, bad = speculation.draft(requests, 0, 100)
        speculation.observe("good", [RIGHT] * (len(good) + 1))
        speculation.observe("bad", [WRONG])
    assert len(good) > 0 == len(bad)


def test_best_counts_leave_a_long_prompt_alone_where_a_batch_is_dear():
    assert best_counts([[0.98] * 8], 129, 100, lambda tokens, _: CPU(129 + tokens)) == [0]
    assert best_counts([[0.98] * 8], 129, 100, lambda tokens, _: GPU(129 + tokens)) == [8]


def test_speculation_skips_a_step_now_and_then_to_measure_it():
    speculation = Speculation(ScriptedDrafter(), CONFIG, GPU)
    lengths = always_right(speculation, 2 * CONTROL_EVERY_STEPS)
    assert lengths.count(0) == 2


def test_speculation_doubts_a_step_time_that_keeps_it_off():
    speculation = Speculation(ScriptedDrafter(), CONFIG, lambda tokens: tokens**2)
    lengths = always_right(speculation, 4000)
    assert max(lengths) == PROBE_TOKENS
    assert lengths.count(0) > 0.98 * 4000


def test_speculation_beside_a_long_prompt_only_probes_where_a_batch_is_dear():
    for prompt_tokens, most in ((0, MAX_TOKENS), (128, PROBE_TOKENS)):
        speculation = Speculation(ScriptedDrafter(), CONFIG, CPU)
        assert max(always_right(speculation, 100, prompt_tokens)) == most


def always_right(speculation: Speculation, steps: int, prompt_tokens: int = 0) -> list[int]:
    """Decode a text that is always guessed right; how many guesses each step took."""
    lengths = []
    for _ in range(steps):
        request = DraftRequest("s", [0], MAX_TOKENS)
        (draft,) = speculation.draft([request], prompt_tokens, 100)
        speculation.observe("s", [RIGHT] * (len(draft) + 1))
        lengths.append(len(draft))
    return lengths


def test_speculation_keeps_to_what_a_sequence_and_the_step_have_room_for():
    speculation = Speculation(ScriptedDrafter(), CONFIG, GPU)
    none, three = (DraftRequest(key, [0], tokens) for key, tokens in (("a", 0), ("b", 3)))
    assert [len(draft) for draft in speculation.draft([none, three], 0, 100)] == [0, 3]
    assert [len(draft) for draft in speculation.draft([none, three], 0, 2)] == [0, 2]
    assert [len(draft) for draft in speculation.draft([none, three], 0, 0)] == [0, 0]
    assert speculation.draft([], 0, 100) == []


def test_speculation_passes_on_that_a_sequence_has_ended():
    drafter = ScriptedDrafter()
    speculation = Speculation(drafter, CONFIG, GPU)
    speculation.draft([DraftRequest("s", [0], 3)], 0, 100)
    speculation.forget("s")
    speculation.observe("s", [RIGHT])
    assert drafter.forgotten == ["s"]


def test_best_counts_are_those_of_most_useful_tokens_per_second():
    def seconds(tokens: int, depth: int) -> float:
        return 3.0 + tokens + 0.5 * depth

    chances = [[0.9, 0.9, 0.9, 0.9], [0.5, 0.5], [], [0.99, 0.99, 0.1, 0.9]]
    counts = best_counts(chances, 4, 100, seconds)

    def rate(candidate: list[int]) -> float:
        useful = 4.0
        for each, count in zip(chances, candidate, strict=True):
            survival = 1.0
            for chance in each[:count]:
                survival *= chance
                useful += survival
        return useful / seconds(sum(candidate), max(candidate))

    options = [[a, b, 0, d] for a in range(5) for b in range(3) for d in range(5)]
    assert rate(counts) == max(map(rate, options))


def test_best_counts_look_beyond_a_step_in_the_price():
    def tiles(tokens: int, _depth: int) -> float:
        """A batch is computed in tiles of four."""
        return 1.0 + 0.6 * -(-(tokens + 1) // 4)

    assert best_counts([[0.95] * 7], 1, 100, tiles) == [7]
