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
    assert "Step 2 of 2: Do this step of the work: translate." in stage.prompt("s2")


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
