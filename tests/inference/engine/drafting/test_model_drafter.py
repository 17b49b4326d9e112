"""Drafts by a second model: the fake drafts for itself, so every guess must be right."""

import numpy as np
import pytest

from inference.engine.backend import DecodeOutcome, ModelLoadError
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Draft, DraftRequest
from inference.engine.drafting.model_drafter import ModelDrafter
from inference.engine.drafting.speculation import Speculation
from tests.inference.engine.fake_backend import FakeBackend, letter_after


def drafter_over(
    backend: FakeBackend, *, max_sequences: int = 4, step_tokens: int = 64
) -> ModelDrafter:
    return ModelDrafter(
        backend,
        FakeBackend(64),
        EngineConfig(backend.kv_cells, max_sequences, step_tokens=step_tokens),
    )


def text(start: str, more: int = 0) -> list[int]:
    """A text as the fake goes on with it."""
    tokens = list(start.encode())
    for _ in range(more):
        tokens.append(letter_after(tokens))
    return tokens


def right(start: list[int], count: int) -> list[int]:
    """The next token of the fake."""
    tokens = list(start)
    for _ in range(count):
        tokens.append(letter_after(tokens))
    return tokens[len(start) :]


def computed(backend: FakeBackend) -> int:
    """Tokens that went through the draft model."""
    return sum(len(span.token_ids) for spans in backend.decoded_batches for span in spans)


def propose(drafter: ModelDrafter, *requests: tuple[str, list[int], int]) -> list[list[int]]:
    drafts = drafter.propose([DraftRequest(*request) for request in requests])
    return [draft.token_ids for draft in drafts]


def test_model_drafter_says_what_its_model_says():
    drafter = drafter_over(FakeBackend(256))
    first, second = text("first"), text("the second")
    assert propose(drafter, ("a", first, 3), ("b", second, 5)) == [
        right(first, 3),
        right(second, 5),
    ]


def test_model_drafter_computes_several_sequences_in_a_batch():
    backend = FakeBackend(256)
    propose(drafter_over(backend), ("a", text("first"), 3), ("b", text("second"), 3))
    assert [len(spans) for spans in backend.decoded_batches] == [2, 2, 2]


@pytest.mark.parametrize("accepted", [0, 1, 2, 3, 4])
def test_model_drafter_keeps_the_guesses_that_were_right(accepted: int):
    backend = FakeBackend(256)
    drafter = drafter_over(backend)
    start = text("start")
    (draft,) = propose(drafter, ("s", start, 4))
    before = computed(backend)
    continued = [*start, *draft[:accepted], ord("X")]
    assert propose(drafter, ("s", continued, 2)) == [right(continued, 2)]
    # Of four guesses three are in the cache: the last was never computed.
    assert computed(backend) - before == len(continued) - len(start) - min(accepted, 3) + 1


def test_model_drafter_keeps_no_guess_beyond_a_wrong_one():
    drafter = drafter_over(FakeBackend(256))
    start = text("start")
    (draft,) = propose(drafter, ("s", start, 4))
    continued = [*start, draft[0], ord("X"), *draft[2:4]]
    assert propose(drafter, ("s", continued, 2)) == [right(continued, 2)]


def test_model_drafter_asked_again_for_the_same_text_says_the_same():
    drafter = drafter_over(FakeBackend(256))
    start = text("start")
    assert propose(drafter, ("s", start, 3)) == propose(drafter, ("s", start, 3))


def test_model_drafter_catches_up_with_what_was_said_without_it():
    drafter = drafter_over(FakeBackend(256))
    propose(drafter, ("s", text("start"), 2))
    later = text("start", 30)
    assert propose(drafter, ("s", later, 2)) == [right(later, 2)]


def test_model_drafter_lets_nobody_wait_for_a_long_prompt():
    backend = FakeBackend(256)
    drafter = drafter_over(backend, step_tokens=16)
    long, short = text("l" * 40), text("short")
    for _ in range(2):
        batches = len(backend.decoded_batches)
        assert propose(drafter, ("long", long, 2), ("short", short, 2)) == [[], right(short, 2)]
        assert len(backend.decoded_batches) - batches == 2
    assert propose(drafter, ("long", long, 2)) == [right(long, 2)]


def test_model_drafter_drops_the_sequence_unused_for_longest_when_cells_run_out():
    backend = FakeBackend(40)
    drafter = drafter_over(backend)
    old, new, third = text("o" * 15), text("n" * 15), text("t" * 15)
    propose(drafter, ("old", old, 1), ("new", new, 1))
    propose(drafter, ("old", old, 1))
    before = computed(backend)
    assert propose(drafter, ("third", third, 1)) == [right(third, 1)]
    assert propose(drafter, ("old", old, 1)) == [right(old, 1)]
    assert computed(backend) - before == len(third) + 1
    assert backend.used_cells <= 40


def test_model_drafter_has_no_draft_where_there_is_no_room():
    backend = FakeBackend(40)
    drafter = drafter_over(backend)
    first, second = text("f" * 30), text("s" * 30)
    assert propose(drafter, ("f", first, 2), ("s", second, 2)) == [right(first, 2), []]
    assert propose(drafter, ("x", text("x" * 60), 2)) == [[]]


def test_model_drafter_drops_a_sequence_when_slots_run_out():
    drafter = drafter_over(FakeBackend(256), max_sequences=2)
    for name in "abcd":
        start = text(name)
        assert propose(drafter, (name, start, 2)) == [right(start, 2)]
    three = [(name, text(name), 1) for name in "abc"]
    assert [bool(draft) for draft in propose(drafter, *three)] == [True, False, True]


def test_model_drafter_forgets_what_has_ended():
    backend = FakeBackend(256)
    drafter = drafter_over(backend)
    propose(drafter, ("a", text("a"), 2), ("b", text("b"), 2))
    drafter.forget("a")
    drafter.forget("never seen")
    assert backend.stored_tokens(0) == 0 < backend.stored_tokens(1)
    drafter.forget("b")
    assert backend.used_cells == 0


def test_model_drafter_survives_a_decode_that_does_not_finish():
    backend = FakeBackend(256)
    drafter = drafter_over(backend)
    start = text("start")
    backend.while_decoding = backend.abort
    assert propose(drafter, ("s", start, 2)) == [[]]
    assert backend.decode([]) is DecodeOutcome.ABORTED
    backend.while_decoding = None
    assert propose(drafter, ("s", start, 2)) == [right(start, 2)]


def test_model_drafter_is_surer_of_a_token_without_rivals():
    (sure,) = drafter_over(FakeBackend(256)).propose([DraftRequest("s", text("s"), 1)])
    assert sure.grades == [ModelDrafter.top_grade]

    class Doubtful(FakeBackend):
        def logits(self, span_index: int, output: int = 0):
            logits = super().logits(span_index, output).copy()
            logits[:3] = logits.max() - 1
            return logits

    (unsure,) = drafter_over(Doubtful(256)).propose([DraftRequest("s", text("s"), 1)])
    assert 0 < unsure.grades[0] < ModelDrafter.top_grade


def test_model_drafter_knows_what_its_steps_take():
    now = iter(range(0, 1000, 3))
    drafter = ModelDrafter(
        FakeBackend(256),
        FakeBackend(64),
        EngineConfig(256, 4, step_tokens=64),
        clock=lambda: float(next(now)),
    )
    # Otherwise it would not be asked, and never be measured.
    assert drafter.seconds(4, 4) == 0.0
    propose(drafter, ("s", text("s"), 4))
    assert drafter.seconds(4, 4) == pytest.approx(12.0)
    assert drafter.seconds(0, 0) == 0.0


def test_model_drafter_does_nothing_for_those_who_want_nothing():
    backend = FakeBackend(256)
    assert drafter_over(backend).propose([DraftRequest("s", text("s"), 0)]) == [Draft()]
    assert drafter_over(backend).propose([]) == []
    assert backend.decoded_batches == []


class Foreign(FakeBackend):
    """Another vocabulary."""

    def token_name(self, token_id: int) -> bytes:
        """One token is another."""
        return b"?" if token_id == 97 else super().token_name(token_id)


class Larger(FakeBackend):
    """A vocabulary that is padded."""

    vocabulary_size = FakeBackend.vocabulary_size + 100


class Huge(FakeBackend):
    """A vocabulary of another family."""

    vocabulary_size = FakeBackend.vocabulary_size + 1000


def test_model_drafter_refuses_another_vocabulary():
    with pytest.raises(ModelLoadError, match="Token 97 is b'\\?' to the draft model"):
        drafter_over(Foreign(64))
    with pytest.raises(ModelLoadError, match="1257 tokens and the model 257"):
        drafter_over(Huge(64))


def test_model_drafter_refuses_a_model_that_takes_nothing_back():
    backend = FakeBackend(64)
    backend.recurrent = True
    with pytest.raises(ModelLoadError, match="recurrent"):
        drafter_over(backend)


def test_model_drafter_takes_a_padded_vocabulary_but_none_of_its_padding():
    class Padded(Larger):
        def logits(self, span_index: int, output: int = 0):
            return np.append(super().logits(span_index, output), [99.0] * 100)

    start = text("start")
    assert propose(drafter_over(Padded(64)), ("s", start, 2)) == [right(start, 2)]


def test_model_drafter_gets_to_draft_under_the_policy():
    ticks = iter(range(10_000))
    drafter = ModelDrafter(
        FakeBackend(256),
        FakeBackend(64),
        EngineConfig(256, 4, step_tokens=64),
        clock=lambda: next(ticks) * 1e-4,
    )
    speculation = Speculation(drafter, EngineConfig(8, 1, max_draft_tokens=8), lambda _tokens: 0.01)
    whole = text("start")
    drafted = 0
    for _ in range(20):
        (draft,) = speculation.draft([DraftRequest("s", whole, 8)], 0, 100)
        sampled = right(whole, len(draft) + 1)
        assert draft == sampled[:-1]
        speculation.observe("s", sampled)
        whole = [*whole, *sampled]
        drafted += len(draft)
    assert drafted > 100
