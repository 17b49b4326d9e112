"""Pipeline: stages in order, and the best partial answer."""

import pytest

from inference.errors import ModelBusyError
from tests.inference.orchestration.scripted_stage import FAILS, ScriptedStage, cast, played

TRIO = ("alpha drafter", "beta refiner", "gamma validator")


async def test_pipeline_hands_each_answer_to_the_next_member():
    stage = ScriptedStage({"s1": "Wet.", "s2": "Rain is wet.", "s3": "Rain is water."})
    answer = await played(stage, cast("pipeline", *TRIO))
    assert (answer.said.text, answer.rounds) == ("Rain is water.", 3)
    assert [call.member.spec.model_slug for call in stage.calls] == ["alpha", "beta", "gamma"]
    assert "<<<draft\nWet.\ndraft>>>" in stage.prompt("s2")
    assert "Wet." not in stage.prompt("s3")
    assert stage.given == ["s3"]


async def test_pipeline_names_stages_of_ones_own():
    stage = ScriptedStage({"s1": "Regen.", "s2": "Rain."})
    pair = cast("pipeline", "alpha drafter", "beta refiner", stages=["draft", "translate"])
    await played(stage, pair)
    assert "- Next: Do this step of the work: translate." in stage.prompt("s2")


@pytest.mark.parametrize("failed", [FAILS, "  \n"])
async def test_pipeline_gives_the_last_answer_that_went_well(failed: str):
    stage = ScriptedStage({"s1": "Wet.", "s2": failed})
    answer = await played(stage, cast("pipeline", *TRIO))
    assert (answer.said.text, answer.rounds, answer.stopped_by) == ("Wet.", 1, "stage_failed")
    assert answer.error


async def test_pipeline_gives_the_beginning_that_the_client_has():
    stage = ScriptedStage({"s1": "Wet.", "s2": "Rain.", "s3": FAILS + "Rain is"})
    answer = await played(stage, cast("pipeline", *TRIO))
    assert answer.said.text == "Rain is"


async def test_pipeline_without_a_draft_fails():
    with pytest.raises(ModelBusyError):
        await played(ScriptedStage({"s1": FAILS}), cast("pipeline", *TRIO))


async def test_pipeline_puts_a_contradiction_aside_and_tries_once_more():
    texts = {"s1": "Decision: Use PostgreSQL.", "s2": "Do not use PostgreSQL.", "s2b": "Fine."}
    stage = ScriptedStage(texts)
    pair = cast("pipeline", "alpha drafter", "beta refiner", "gamma validator")
    stage._texts["s3"] = "Use PostgreSQL."
    answer = await played(stage, pair)
    assert stage.keys == ["s1", "s2", "s2b", "s3"]
    assert answer.said.text == "Use PostgreSQL."
    assert [code for code, _ in stage.notices] == ["contradiction_detected"]
    assert "contradicts the decision: Use PostgreSQL" in stage.prompt("s2b")
    assert "Do not use" not in stage.prompt("s2b")


async def test_pipeline_with_a_second_contradiction_gives_what_went_well():
    wrong = "Do not use PostgreSQL."
    stage = ScriptedStage({"s1": "Decision: Use PostgreSQL.", "s2": wrong, "s2b": wrong})
    answer = await played(stage, cast("pipeline", *TRIO))
    assert (answer.said.key, answer.rounds) == ("s1", 1)
    assert "contradicts" in answer.error


async def test_pipeline_goes_on_after_an_apology_and_says_so():
    stage = ScriptedStage({"s1": "I apologize, rain is wet.", "s2": "Rain.", "s3": "Rain is wet."})
    answer = await played(stage, cast("pipeline", *TRIO))
    assert (answer.said.text, answer.error) == ("Rain is wet.", "")
    assert [code for code, _ in stage.notices] == ["error_marker_detected"]
