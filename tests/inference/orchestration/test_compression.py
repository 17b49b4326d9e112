"""Texts that are made to fit, and those that cannot."""

import re

import pytest

from inference.errors import CompressionFailedError
from inference.orchestration.answers import shown
from inference.orchestration.compression import Fitted, fit, sentences

CODE = "```python\nx = 1\nx = 1\n\n\n\nprint(x)\n```"
FILLER = [f"Sentence {'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10]} is filler." for i in range(100)]


async def count(text: str) -> int:
    return len(re.findall(r"\S+", text))


async def shortened(text: str, most_tokens: int, **options) -> Fitted:
    return await fit(text, most_tokens, count=count, **({"shorten": None} | options))


class Model:
    """Gives its answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, text: str, most_tokens: int) -> str:
        self.asked.append((text, most_tokens))
        return self.answers.pop(0)


async def test_fit_leaves_a_text_that_fits():
    text = "<think>a</think>\n\n\n\nYes. Yes."
    assert await shortened(text, 3) == Fitted(text, 3, 3, 0)


async def test_fit_cleans_first():
    text = (
        "<think>\nLong thoughts, with ```\n</think>\nThe cache is on the second host.\n\n\n\n"
        "- The cache is  on the second host.\n" + CODE + "\nThe cache is on the second host. End."
    )
    fitted = await shortened(text, 17)
    assert fitted.text == "The cache is on the second host.\n\n" + CODE + "\nEnd."


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a\n<think>\nb\n</think>\nc", "a\n\nc"),
        ("thought\n</think>\n\nb", "b"),
        ("<think>never ends", ""),
        ("<think>a ``` b</think>\nc", "c"),
    ],
)
def test_reasoning_is_left_out(text: str, rest: str):
    assert shown(text) == rest


async def test_fit_drops_light_sentences_and_keeps_the_order():
    heavy = ["The client must retry.", "It takes 40 ms.", "We decided on PostgreSQL."]
    text = " ".join([*FILLER[:30], heavy[0], *FILLER[30:60], heavy[1], *FILLER[60:], heavy[2]])
    fitted = await shortened(text, 40)
    assert fitted.after <= 40
    assert fitted.after == await count(fitted.text)
    assert fitted.before == 412
    places = [fitted.text.find(sentence) for sentence in heavy]
    assert -1 not in places
    assert places == sorted(places)


async def test_fit_keeps_whole_sentences():
    text = "\n".join(f"{i}. Dr. Smith said e.g. item {i} of 1.5 kg is here." for i in range(50))
    fitted = await shortened(text, 100)
    assert set(fitted.text.splitlines()) <= set(text.splitlines())
    assert 80 < fitted.after <= 100


def test_sentences_end_at_marks_and_lines():
    found = [
        *("# Plan\n\n", "1. Ask Dr. Lee. ", "2 of 3, i.e. most,\nagree!\n", "- no end\n"),
        *("\u597d\u3002", "\u662f"),
    ]
    assert sentences("".join(found)) == found


@pytest.mark.parametrize("most_tokens", [1, 250, 399])
async def test_fit_with_a_model_drops_less_than_half_itself(most_tokens: int):
    model = Model(*["word"] * 3)
    fitted = await shortened(" ".join(FILLER), most_tokens, shorten=model)
    assert fitted.after <= most_tokens
    for text, _ in model.asked[:1]:
        assert await count(text) >= 200


async def test_fit_with_a_model_keeps_a_sentence_of_more_than_half():
    long = "Also " + "very " * 60 + "long."
    text = f"First {FILLER[0]} {long} {' '.join(FILLER[1:8])}"
    fitted = await shortened(text, 80, shorten=Model())
    assert (long in fitted.text, fitted.iterations) == (True, 0)
    assert long not in (await shortened(text, 80)).text


async def test_fit_without_a_model_keeps_one_sentence():
    fitted = await shortened(" ".join([*FILLER, "You must stop."]), 4)
    assert fitted.text == "You must stop."
    with pytest.raises(CompressionFailedError) as error:
        await shortened(" ".join([*FILLER, "You must stop."]), 2)
    assert error.value.details == {"tokens": 3, "limit": 2, "iterations": 0}


async def test_fit_asks_the_model_three_times_at_most():
    model = Model("a " * 150, "b " * 120, "c " * 110, "d")
    with pytest.raises(CompressionFailedError, match=r"still has 110 tokens; 100 are free"):
        await shortened(" ".join(FILLER), 100, shorten=model)
    assert [most for _, most in model.asked] == [90, 90, 90]


@pytest.mark.parametrize("bad", ["It takes 7 ms.", "", "word " * 300, "<think>only this"])
async def test_fit_rejects_a_result_that_adds_a_number_or_is_not_shorter(bad: str):
    text = " ".join([*FILLER, "It takes 40 ms."])
    model = Model(bad, "1. It takes 40 ms.")
    fitted = await shortened(text, 10, shorten=model)
    assert (fitted.text, fitted.iterations) == ("1. It takes 40 ms.", 2)
    assert model.asked[0] == model.asked[1]


async def test_fit_never_rewrites_code():
    text = " ".join(FILLER[:50]) + "\n" + CODE + "\n" + " ".join(FILLER[50:])
    model = Model("Before.", "After.")
    fitted = await shortened(text, 30, shorten=model)
    assert fitted.text == f"Before.\n{CODE}\nAfter."
    assert not any("```" in asked for asked, _ in model.asked)
    assert CODE in (await shortened(text, 30)).text
    with pytest.raises(CompressionFailedError):
        await shortened(CODE + " \n" + text, 5)


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 20_000,
        "`" * 200_000,
        "a" * 1_000_000,
        "```\n" * 50_001,
        "1. " * 50_000,
        "\n \n" * 99,
    ],
)
async def test_fit_ends_on_any_text(text: str):
    async def length(of: str) -> int:
        return len(of)

    with pytest.raises(CompressionFailedError):
        await fit(text, 3, count=length, shorten=None)


async def test_fit_takes_20_000_tokens_to_1_500():
    text = " ".join(f"{part} {n}" for n, part in enumerate(FILLER * 40))
    model = Model("Only the result. " * 700, "Only the result. " * 400)
    fitted = await shortened(text, 1500, shorten=model)
    assert (fitted.before, fitted.after, fitted.iterations) == (20_000, 1200, 2)
