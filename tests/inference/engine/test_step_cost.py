"""Step times as a line over tokens."""

import random

import pytest

from inference.engine.step_cost import FIRST_SHARE, StepCost, StepCosts


def learnt(seconds_of, tokens, noise: float = 0.0) -> StepCost:
    cost = StepCost()
    draw = random.Random(1)
    for count in tokens:
        cost.observe(count, seconds_of(count) * draw.uniform(1 - noise, 1 + noise))
    return cost


def line(tokens: int) -> float:
    return 0.003 + 0.0029 * tokens


def test_step_cost_is_hopeful_of_more_tokens_until_it_has_seen_some():
    assert StepCost().seconds(5) / StepCost().seconds(1) == pytest.approx(1 + 4 * FIRST_SHARE)
    ones = learnt(line, [1] * 50)
    assert ones.seconds(1) == pytest.approx(line(1))
    assert ones.seconds(5) == pytest.approx(line(1) * (1 + 4 * FIRST_SHARE))


def test_step_cost_learns_the_price_of_more_tokens_from_few_steps():
    cost = learnt(line, [1] * 20 + [9, 9, 3])
    assert cost.seconds(5) / cost.seconds(1) == pytest.approx(line(5) / line(1), rel=0.2)


def test_step_cost_is_not_misled_by_noise():
    cost = learnt(line, [1, 2, 5, 9, 1, 3] * 60, noise=0.3)
    for tokens in (1, 4, 8, 16):
        assert cost.seconds(tokens) == pytest.approx(line(tokens), rel=0.15)


def test_step_cost_keeps_the_price_for_long_while_all_steps_have_one_token():
    cost = learnt(line, [1, 9] * 100 + [1] * 600)
    assert cost.seconds(9) / cost.seconds(1) == pytest.approx(line(9) / line(1), rel=0.1)


def test_step_cost_soon_outweighs_an_odd_beginning():
    cost = StepCost()
    for tokens in (1, 9, 9, 1, 5):
        cost.observe(tokens, 0.05)
    for tokens in [1, 9, 3] * 50:
        cost.observe(tokens, line(tokens))
    for tokens in (1, 9):
        assert cost.seconds(tokens) == pytest.approx(line(tokens), rel=0.1)


def test_step_cost_follows_the_machines_pace():
    cost = learnt(line, [1, 9] * 1000)
    for _ in range(500):
        cost.observe(1, 2 * line(1))
    assert cost.seconds(1) == pytest.approx(2 * line(1), rel=0.15)
    assert cost.seconds(9) / cost.seconds(1) == pytest.approx(line(9) / line(1), rel=0.3)


def test_step_cost_takes_one_long_step_lightly():
    cost = learnt(line, [1, 9] * 50)
    before = cost.seconds(1)
    cost.observe(1, 100 * before)
    assert cost.seconds(1) < 1.2 * before


def test_step_cost_takes_steps_too_short_for_the_clock():
    cost = StepCost()
    cost.observe(1, 0.0)
    cost.observe(2, 0.0)
    assert cost.seconds(1) > 0


def test_step_cost_tells_how_many_tokens_fit_a_time():
    assert StepCost().tokens_within(1.0, 100) is None
    cost = learnt(line, [1, 5, 9] * 30)
    assert cost.tokens_within(line(20) + 0.001, 100) == 20
    assert cost.tokens_within(1.0, 100) == 100


def test_step_costs_tell_how_much_prompt_makes_a_step_twice_as_long():
    costs = StepCosts()
    for answers in (8, 1, 4, 8, 2) * 20:
        costs.observe(answers, 0, 0.010 + 0.002 * answers)
    for prompt in (10, 40, 120, 60) * 20:
        costs.observe(8, prompt, 0.026 + 0.001 * prompt)
    assert costs.prompt_tokens_within(8, 2.0, 512) == pytest.approx(26, abs=2)
    assert costs.prompt_tokens_within(1, 2.0, 512) == pytest.approx(12, abs=2)
    assert costs.prompt_tokens_within(8, 5.0, 60) == 60


def test_step_costs_of_prompts_do_not_change_those_of_answers():
    costs = StepCosts()
    for _ in range(30):
        costs.observe(8, 0, 0.020)
        costs.observe(0, 500, 0.500)
    assert costs.answers.seconds(8) == pytest.approx(0.020)


def test_step_costs_do_not_guess_before_they_have_seen_both():
    costs = StepCosts()
    assert costs.prompt_tokens_within(8, 2.0, 512) is None
    costs.observe(8, 0, 0.020)
    assert costs.prompt_tokens_within(8, 2.0, 512) is None
