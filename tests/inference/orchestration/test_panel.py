"""Ensemble and debate: who decides, when it ends, and what the figures count."""

import pytest

from inference.errors import ModelBusyError
from tests.inference.orchestration.scripted_stage import FAILS, ScriptedStage, asked, cast, played

SUM = "What is 17 + 25?"
THREE = ("alpha generator", "beta generator", "gamma generator")
TWINS = ("alpha generator", "alpha generator", "alpha generator")
PAIR = ("alpha debater", "beta debater")


def answers(*texts: str, number: int = 1) -> dict[str, str]:
    return {f"r{number}.{index}": text for index, text in enumerate(texts)}


async def test_ensemble_gives_the_answer_of_the_majority_without_another_call():
    stage = ScriptedStage(answers("Answer: 42", "It is 41.", "The result is 42."))
    answer = await played(stage, cast("ensemble", *THREE, min_agreement=0.6), asked(SUM))
    assert (answer.said.text, answer.stopped_by) == ("Answer: 42", "agreement")
    assert len(stage.keys) == 3
    assert answer.confidence == pytest.approx(2 / 3)
    assert answer.facts["agreement"]["method"] == "extracted"
    assert answer.facts["consensus"]


async def test_ensemble_without_a_majority_is_merged():
    texts = answers("Answer: 42", "It is 41.", "It is 40.") | {"final": "Answer: 42"}
    stage = ScriptedStage(texts)
    members = (*THREE, "delta synthesiser")
    answer = await played(stage, cast("ensemble", *members), asked(SUM))
    assert (answer.said.key, answer.stopped_by) == ("final", "synthesis")
    assert stage.calls[-1].member.spec.model_slug == "delta"
    assert (stage.given, answer.facts["consensus"]) == (["final"], False)
    assert stage.foreseen == [[["alpha", "beta", "gamma"], ["delta"]]]
    prompt = stage.prompt("final")
    assert "<<<answer A\nAnswer: 42\nanswer A>>>" in prompt
    assert "alpha" not in prompt


async def test_ensemble_counts_the_members_that_were_asked():
    stage = ScriptedStage(answers("Answer: 42", FAILS, "It is 42."))
    answer = await played(stage, cast("ensemble", *THREE, min_agreement=0.6), asked(SUM))
    assert answer.confidence == pytest.approx(2 / 3)
    assert (answer.facts["degraded"], answer.error) == (True, "")


async def test_ensemble_with_one_answer_left_gives_it():
    stage = ScriptedStage(answers(FAILS, "It is 42.", FAILS))
    answer = await played(stage, cast("ensemble", *THREE), asked(SUM))
    assert (answer.said.text, answer.stopped_by) == ("It is 42.", "one_answer")


async def test_ensemble_without_answers_fails():
    with pytest.raises(ModelBusyError):
        await played(ScriptedStage(answers(FAILS, FAILS, FAILS)), cast("ensemble", *THREE))


async def test_ensemble_whose_synthesis_fails_gives_the_first_answer():
    stage = ScriptedStage(answers("It is 1.", "It is 2.", "It is 3.") | {"final": FAILS})
    answer = await played(stage, cast("ensemble", *THREE), asked(SUM))
    assert (answer.said.text, answer.stopped_by) == ("It is 1.", "synthesis_failed")
    assert answer.error == "The queue is full."


async def test_greedy_copies_of_one_model_measure_nothing():
    stage = ScriptedStage(answers("It is 42.", "It is 42.", "It is 42."))
    answer = await played(stage, cast("ensemble", *TWINS), asked(SUM, temperature=0))
    assert (answer.confidence, answer.confidence_method) == (None, "")
    assert answer.facts["agreement"]["reason"] == "not_independent"


async def test_copies_of_one_model_get_a_temperature_and_seeds_of_their_own():
    stage = ScriptedStage(answers("It is 42.", "It is 42.", "It is 41."))
    await played(stage, cast("ensemble", *TWINS, min_agreement=0.6), asked(SUM, seed=7))
    requests = [call.request for call in stage.calls]
    assert {request.temperature for request in requests} == {1.0}
    assert len({request.seed for request in requests}) == 3
    assert stage.notices[0] == ("temperature", {"value": 1.0})


async def test_open_answers_are_merged_unless_their_meaning_is_known():
    texts = answers("Rain is water.", "Rain is water that falls.", "Rain is wet.")
    stage = ScriptedStage(texts | {"final": "Rain."})
    answer = await played(stage, cast("ensemble", *THREE))
    assert (answer.said.text, answer.confidence) == ("Rain.", None)
    assert answer.facts["agreement"]["reason"] == "no_embedder"


async def test_debate_ends_when_all_agree():
    stage = ScriptedStage(answers("It is 42.", "Answer: 42"))
    answer = await played(stage, cast("debate", *PAIR), asked(SUM))
    assert (stage.keys, answer.stopped_by) == (["r1.0", "r1.1"], "agreement")
    assert (answer.rounds, answer.confidence) == (1, 1.0)


async def test_debate_without_agreement_is_reconciled_after_its_rounds():
    texts = {"final": "Yes"}
    for number in (1, 2, 3):
        texts |= answers("Yes, it is.", "No, it is not.", number=number)
    stage = ScriptedStage(texts)
    members = (*PAIR, "alpha reconciler")
    answer = await played(stage, cast("debate", *members), asked("Is rain wet? Say yes or no."))
    assert (len(stage.keys), stage.keys[-1]) == (7, "final")
    # Nobody has voted for the reconciled answer.
    assert (answer.confidence, answer.stopped_by) == (None, "max_rounds")
    assert answer.facts["agreement"]["by_round"] == [0.5, 0.5, 0.5]
    assert [point["by"] for point in answer.facts["flagged_points"]] == [[0], [1]]
    assert stage.foreseen[-1] == [["alpha", "beta"], ["alpha"]]


async def test_debaters_see_only_the_others_and_keep_their_own_turn():
    texts = answers("<think>beta is better</think>It is 42.", "It is 41.")
    texts |= answers("It is 42.", "It is 42.", number=2)
    stage = ScriptedStage(texts)
    await played(stage, cast("debate", *PAIR), asked(SUM))
    call = next(call for call in stage.calls if call.key == "r2.1")
    *_, own, prompt = call.request.messages
    assert (own.role, own.content) == ("assistant", "It is 41.")
    assert "It is 42." in str(prompt.content)
    assert all(name not in str(prompt.content) for name in ("beta", "think", "alpha", "T4"))


async def test_debater_that_fails_keeps_its_earlier_answer():
    texts = answers("It is 42.", "It is 41.") | answers(FAILS, "It is 42.", number=2)
    answer = await played(ScriptedStage(texts), cast("debate", *PAIR), asked(SUM))
    assert (answer.said.text, answer.confidence) == ("It is 42.", 1.0)


async def test_structured_answers_agree_by_their_values():
    form = {"type": "json_object"}
    texts = answers('{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', '{"a": "1", "b": 2}')
    stage = ScriptedStage(texts)
    request = asked("Give JSON.", response_format=form)
    answer = await played(stage, cast("ensemble", *THREE, min_agreement=0.6), request)
    assert [list(group) for group in answer.facts["agreement"]["groups"]] == [[0, 1], [2]]
    assert answer.said.text == '{"a": 1, "b": 2}'
