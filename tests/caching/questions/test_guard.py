"""The guard, on named examples: traps, most of them near for vectors, and true repeats."""

import pytest

from caching.questions.canonical import canonical_text
from caching.questions.facts import facts_of
from caching.questions.guard import refusal
from caching.questions.words import is_slip, is_word

TRAPS = """
Track my order 48213|Track my order 48231
Is ibuprofen safe to take with alcohol?|Is ibuprofen unsafe to take with alcohol?
turn on dark mode|turn off dark mode
Can I take maternity leave from 12 to 26 weeks?|Can I take maternity leave from 26 to 12 weeks?
Do Mexican girls like black guys?|Do black girls like Mexican guys?
Move £50 from my savings to my current account|Move £50 from my current account to my savings
How do I reset my iphone7?|How do I reset my iphone12?
What is the square root of 1?|What is the square root of 1-i?
What does this symbol ≈ do?|What does this symbol do?
What does this symbol ≈ mean?|What does this symbol mean?
What is in catnip?|What is catnip?
Should I learn how to code?|How should I learn to code?
How do I scam a politician?|How do politicians scam?
What happens if you don't pay?|What happens if you can't pay?
How do I set up a direct debit?|How do I set up a direct debt?
What is a force?|What is forced?
Why is my cat bored?|Why is my cat boring?
Do I need a visa for my dog?|Do I need a visa for my dogs?
How do you say hello?|How do you say thanks?
When should I say please?|When should I say
Should I send my friend thanks?|Should I send my friend
Is a tomato a fruit?|Is a fruit a tomato?
Should I visit Rome or Paris?|Should I visit Paris or Rome?
What is 2 + (3 * 4)?|What is (2 + 3) * 4?
What is 5!?|What is 5?
What is x^2?|What is x^3?
What is -5 plus 3?|What is 5 plus 3?
What is 1.5 plus 3?|What is 15 plus 3?
What is 1,5 plus 3?|What is 15 plus 3?
what is 10% of 50?|what is 10 of 50?
What does a² do to the sum?|What does a2 do to the sum?
How do I convert C to C++?|How do I convert C++ to C?
Does rm -r delete folders?|Does rm -R delete folders?
What does the file A.txt hold?|What does the file a.txt hold?
How can I help US?|How can I help us?
How do I clean Windows?|How do I clean windows?
What foods have vitamin A in them?|What foods have vitamin a in them?
How many letters does colour have?|How many letters does color have?
How do I capitalize this: apple pie|How do I capitalize this: Apple pie
Is "it's" right?|Is "its" right?
Fix the 'commas' in it|Fix the commas in it
What is the order of: a b, c|What is the order of: a, b c
No, cancel my order|No cancel my order
How do I look?|How should I look?
How do you store data?|How do I store data?
How do I use my data?|How do you use my data?
Is it legal to park here?|Is it llegal to park here?
How do I use conda?|How do I use condo?
How do I install uvicorn?|How do I install unicorn?
How do I install networkx?|How do I install network?
Is Flickbox free?|Is Flixbox free?
Is Flxible free for me?|Is Flexible free for me?
My boss can my doctor sue?|Can my doctor sue my boss?
what is the price of one apple and two pears?|what is the price of two apple and one pears?
Before class, can I eat?|Can I eat after class?
is it 5 am or 5 pm?|is it 5 pm or 5 am?
What is the temperature in °C?|What is the temperature in °F?
Is the US stronger?|Is the UK stronger?
Do I send my resume?|Do I send my resumé?
Is well water safe?|Is water safe?
Ok Google how do I turn it on?|Google how do I turn it on?
"""
HITS = """
How do I reset my password?|hi, how can i reset my pasword pls
Can I pay by card at the pharmacy?|At the pharmacy, can I pay by card?
How do I change the language in the settings?|In the settings, how can I change the language
What is my favourite colour?|what is my favorite color
Why is the theatre closed?|why is the theater closed??
How do I get my travelling expenses organised?|how to get my traveling expenses organized
How do I cook rice?|How to cook rice?
How do I cook rice?|What's the best way to cook rice?
Why can't I pay by card?|why cant i pay by card
I'd like to know how I register|how do i register
What is 1,000 plus 5?|what is 1000 plus 5
How do I use e-mail?|HOW DO I USE EMAIL
Is the child's room big?|is the childs room big
Should I take it - or not?|should i take it \u2013 or not
What is the plan for my team?|What\u2019s the plan for my team… Thanks!
um so how do i fix a dripping tap|How do I fix a dripping tap?
How do I fix a dripping tap?|Sorry to bother you, but how do I fix a dripping tap? Many thanks
How do I change the email address on my account?|how do i chnage the email adress on my account
Do you offer a vegetarian set menu?|Do you offer a vegitarian set menu?
"""


def pairs(text: str) -> list[tuple[str, ...]]:
    return [tuple(line.split("|")) for line in text.strip().splitlines()]


def served(a: str, b: str) -> tuple[bool, bool]:
    """Whether the canonical form serves, and whether the guard does."""
    form, facts, other = canonical_text(a), facts_of(a), facts_of(b)
    by_guard = facts is not None and other is not None and refusal(facts, other) == ""
    return form is not None and form == canonical_text(b), by_guard


@pytest.mark.parametrize(("a", "b"), pairs(TRAPS))
def test_guard_refuses_traps(a: str, b: str):
    assert served(a, b) == served(b, a) == (False, False)


@pytest.mark.parametrize(("a", "b"), pairs(HITS))
def test_guard_serves_repeats(a: str, b: str):
    assert served(a, b)[1]
    assert served(b, a)[1]


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("Can I book 12 rooms?", "Can I book 21 rooms?", "other numbers, symbols or code: 12 / 21"),
        ("Is it in May?", "Is it in June?", "other dates: May / june"),
        ("Is it 5 km away?", "Is it 5 miles away?", "other units: km / miles"),
        ("Do I pay?", "Do I not pay?", "other negations: none / not"),
        ("Is it the best?", "Is it the worst?", "other comparisons: best / worst"),
        ("When do I pay?", "Where do I pay?", "other kind of question: when / where"),
        ("Can I eat fish?", "Can I eat meat?", "other words: fish / meat"),
        ("Can I eat fish?", "Can I eat fresh fish?", "other words: none / fresh"),
        ("Do dogs eat cats?", "Do cats eat dogs?", "another order of the words"),
        (
            "can greedy dragons swallow mountains whole",
            "can gredy drgons swalow mountins whole",
            "too many mistyped words",
        ),
    ],
)
def test_guard_gives_the_reason_in_words(a: str, b: str, reason: str):
    ours, theirs = facts_of(a), facts_of(b)
    assert ours is not None
    assert theirs is not None
    assert refusal(ours, theirs) == reason


def test_guard_shared_facts_of_what_it_serves_have_one_digest():
    for a, b in pairs(HITS):
        ours, theirs = facts_of(a), facts_of(b)
        assert ours is not None
        assert theirs is not None
        assert ours.digest == theirs.digest, (a, b)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("pasword", "password"),
        ("chnage", "change"),
        ("passswrod", "passsword"),
        ("poassword", "password"),
        ("diffrence", "difference"),
        ("vegitarian", "vegetarian"),
        ("cancle", "cancel"),
    ],
)
def test_slip_is_seen(wrong: str, right: str):
    assert is_slip(wrong, right)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("change", "change"),
        ("networkx", "network"),
        ("network", "networkx"),
        ("cmake", "cake"),
        ("orders", "order"),
        ("order", "orders"),
        ("unicorn", "uvicorn"),
        ("scale", "scala"),
        ("form", "from"),
        ("effect", "affect"),
        ("hydralazine", "hydroxyzine"),
    ],
)
def test_slip_is_not_another_word(wrong: str, right: str):
    assert not is_slip(wrong, right)


def test_dictionary_has_words_and_lacks_slips():
    assert is_word("password")
    assert is_word("kubernetes")
    assert not is_word("pasword")
