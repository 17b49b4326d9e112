"""Makes the items of ``eval_modes``: ``python -m tests.inference_site.tools.mode_items``.

Everything is drawn from one seed, so the committed file can be made again and compared.
"""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.inference_site.tools.mode_code_tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "inference_site" / "tools" / "evaluation" / "items.jsonl"

Item = dict[str, Any]

NUMBER = "Answer with the number only."
YES_NO = "Answer yes or no."
WORDS = [
    "apple",
    "bread",
    "candle",
    "desert",
    "engine",
    "forest",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "magnet",
    "needle",
    "orange",
    "pepper",
    "rabbit",
    "saddle",
    "tomato",
    "umbrella",
    "valley",
    "window",
    "yellow",
    "zebra",
    "anchor",
    "basket",
    "copper",
    "dinner",
    "eleven",
    "falcon",
    "guitar",
    "honey",
    "insect",
    "jungle",
    "kitten",
    "lemon",
    "mirror",
    "nickel",
    "oyster",
]
KINDS = [
    "florps",
    "blickets",
    "daxes",
    "wugs",
    "zorps",
    "mivs",
    "tammas",
    "lorps",
    "keffs",
    "rinds",
    "golls",
    "pashes",
    "sibs",
    "vints",
    "yolks",
]
NAMES = [
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Elena",
    "Felix",
    "Greta",
    "Henry",
    "Irina",
    "Jonas",
    "Karin",
    "Leo",
    "Maria",
    "Nils",
    "Olga",
    "Peter",
    "Rosa",
    "Simon",
    "Tara",
    "Viktor",
]
CITIES = [
    "Berlin",
    "Cairo",
    "Dublin",
    "Hanoi",
    "Lima",
    "London",
    "Madrid",
    "Oslo",
    "Paris",
    "Prague",
    "Quito",
    "Rome",
    "Tokyo",
]
JOBS = [
    "teacher",
    "nurse",
    "baker",
    "lawyer",
    "farmer",
    "pilot",
    "plumber",
    "painter",
    "dentist",
    "driver",
]
GOODS = [
    "lamps",
    "chairs",
    "pens",
    "mugs",
    "towels",
    "books",
    "plates",
    "bottles",
    "blankets",
    "clocks",
]
EVENTS = ["team meeting", "piano lesson", "board dinner", "book club", "yoga class", "staff party"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


def generate(seed: int = 14) -> list[Item]:
    """The items, in an order of which every first part has each group in proportion."""
    draw = Random(seed)
    makers = (sums, counting, sorting, logic, comparing, extraction, classification, code)
    placed: list[tuple[float, Item]] = []
    for maker in makers:
        items = _numbered(maker.__name__, maker(draw))
        draw.shuffle(items)
        placed += [((place + 0.5) / len(items), item) for place, item in enumerate(items)]
    return [item for _, item in sorted(placed, key=lambda one: one[0])]


def write() -> None:
    """Write the file that ``eval_modes`` reads."""
    FILE.write_text("".join(json.dumps(item) + "\n" for item in generate()))


def _numbered(group: str, made: Iterator[Item]) -> list[Item]:
    items: dict[str, Item] = {item["prompt"]: item for item in made}
    return [{"id": f"{group}-{i:02}", "group": group} | v for i, v in enumerate(items.values(), 1)]


def _item(prompt: str, kind: str, gold: Any, **fields: Any) -> Item:
    return {
        "prompt": prompt,
        "fields": {"max_tokens": 48} | fields,
        "check": {"kind": kind, "gold": gold},
    }


def sums(draw: Random) -> Iterator[Item]:
    """Sums and chains of growing size."""
    sizes = [(9, 2), (20, 2), (99, 2), (9, 3), (30, 3), (9, 4), (99, 3), (400, 2)]
    for most, terms in sizes:
        for _ in range(6):
            numbers = [draw.randint(2, most) for _ in range(terms)]
            text, total = str(numbers[0]), numbers[0]
            for number in numbers[1:]:
                sign = "-" if draw.random() < 0.3 and total > number else "+"
                total += number if sign == "+" else -number
                text += f" {sign} {number}"
            yield _item(f"{NUMBER} What is {text}?", "number", str(total))


def counting(draw: Random) -> Iterator[Item]:
    """Letters in a word, and things in a short list."""
    for word in draw.sample(WORDS, 14):
        letter = draw.choice(word)
        text = f'How many times is the letter "{letter}" in the word "{word}"? {NUMBER}'
        yield _item(text, "number", str(word.count(letter)))
    for _ in range(14):
        things = draw.sample(WORDS, draw.randint(2, 7))
        text = f"How many words are in this list: {', '.join(things)}? {NUMBER}"
        yield _item(text, "number", str(len(things)))


def sorting(draw: Random) -> Iterator[Item]:
    """Three words, or three numbers, in order."""
    for _ in range(16):
        words = draw.sample(WORDS, 3)
        text = f"Sort these words from A to Z: {', '.join(words)}. Write only the sorted words."
        yield _item(text, "order", sorted(words))
    for _ in range(12):
        numbers = draw.sample(range(2, 99), 3)
        shown = ", ".join(map(str, numbers))
        text = f"Sort these numbers from small to large: {shown}. Write only the sorted numbers."
        yield _item(text, "order", [str(number) for number in sorted(numbers)])


def logic(draw: Random) -> Iterator[Item]:
    """Syllogisms with invented words, half of them true."""
    for number in range(36):
        a, b, c = draw.sample(KINDS, 3)
        name = draw.choice(NAMES)
        told = (
            f"All {a} are {b}. All {b} are {c}.",
            f"All {a} are {b}. No {b} are {c}.",
            f"All {a} are {b}. {name} is one of the {a}.",
        )[number % 3]
        is_true = number % 2 == 0
        if number % 3 == 0:
            question = f"Are all {a} {c}?" if is_true else f"Is it true that no {a} are {c}?"
        elif number % 3 == 1:
            question = f"Is it true that no {a} are {c}?" if is_true else f"Are all {a} {c}?"
        else:
            question = f"Is it {'true' if is_true else 'false'} that {name} is one of the {b}?"
        yield _item(f"{told} {question} {YES_NO}", "yes_no", "yes" if is_true else "no")


def comparing(draw: Random) -> Iterator[Item]:
    """Numbers, decimals and dates, as yes or no and as a choice of two."""
    for number in range(40):
        kind = number % 4
        if kind == 3:
            first = date(2020, 1, 1) + timedelta(draw.randint(0, 1500))
            second = first + timedelta(draw.choice((-1, 1)) * draw.randint(2, 400))
            shown = [f"{day:%d %B %Y}".lstrip("0") for day in (first, second)]
            question, is_first = "is earlier", first < second
        else:
            top = (99, 999, 9.9)[kind]
            pair = draw.sample(range(2, int(top * 10)), 2)
            values: list[float] = (
                [n / 10 for n in pair] if kind == 2 else [max(2, n // 10) for n in pair]
            )
            if values[0] == values[1]:
                values[1] += 1
            shown = [f"{value:g}" for value in values]
            question, is_first = "is larger", values[0] > values[1]
        if number % 2:
            gold = "a" if is_first else "b"
            text = f"Which {question}?\nA) {shown[0]}\nB) {shown[1]}\nAnswer with the letter."
            yield _item(text, "choice", gold)
        else:
            asked = f"Is {shown[0]} {question[3:]} than {shown[1]}? {YES_NO}"
            yield _item(asked, "yes_no", "yes" if is_first else "no")


def extraction(draw: Random) -> Iterator[Item]:
    """Fields of a sentence, by a JSON schema."""
    for number in range(66):
        text, gold = (_person, _order, _event)[number % 3](draw)
        kinds = {name: _type_of(value) for name, value in gold.items()}
        schema = {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in kinds.items()},
            "required": list(gold),
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "fields", "schema": schema}}
        prompt = f"Give {', '.join(gold)} as JSON, from this text: {text}"
        yield _item(prompt, "json", gold, max_tokens=80, response_format=form)


def _type_of(value: Any) -> str:
    return {int: "integer", float: "number"}.get(type(value), "string")


def _person(draw: Random) -> tuple[str, Item]:
    name, other = draw.sample(NAMES, 2)
    city, age, job = draw.choice(CITIES), draw.randint(19, 80), draw.choice(JOBS)
    text = draw.choice(
        (
            "{name} is a {job} in {city} and is {age} years old.",
            "In {city} lives a {job} called {name}, aged {age}.",
            "{other} said that {name}, {age}, moved to {city} to work as a {job}.",
            "The {job} {name} turned {age} last week. {other} sent flowers to {city}, "
            "{name}'s home.",
        )
    ).format(name=name, other=other, city=city, age=age, job=job)
    return text, {"name": name, "age": age, "city": city, "job": job}


def _order(draw: Random) -> tuple[str, Item]:
    goods, count = draw.choice(GOODS), draw.randint(2, 60)
    price, name = draw.randint(3, 90) + draw.choice((0.5, 0.25, 0.75)), draw.choice(NAMES)
    text = draw.choice(
        (
            "{name} ordered {count} {goods} at {price} euros each.",
            "Please send {count} {goods} to {name}; each costs {price} euros.",
            "We sell {goods} for {price} euros each. {name} wants {count} of them.",
            "{name} had asked for 70 {goods} but took only {count}, at {price} euros each.",
        )
    ).format(name=name, count=count, goods=goods, price=price)
    return text, {"customer": name, "product": goods, "quantity": count, "price": price}


def _event(draw: Random) -> tuple[str, Item]:
    event, day, hour = draw.choice(EVENTS), draw.choice(DAYS), draw.randint(8, 20)
    city, room = draw.choice(CITIES), draw.randint(2, 40)
    text = draw.choice(
        (
            "The {event} is on {day} at {hour}:30 in room {room}, {city}.",
            "On {day} we have a {event} in {city}, room {room}; it starts at {hour}:30.",
            "Room {room} in {city} is booked for the {event}, which begins at {hour}:30 on {day}.",
            "The {event} moved to {day}, {hour}:30. It was planned for Sunday at 9:00. "
            "Place: {city}, room {room}.",
        )
    ).format(event=event, day=day, hour=hour, room=room, city=city)
    return text, {"event": event, "day": day, "time": f"{hour}:30", "city": city, "room": room}


SENTIMENT = {
    "positive": (
        "The {thing} works well and I would buy it again.",
        "I was unsure at first, but the {thing} is a joy to use.",
        "Nobody in my family wants to give the {thing} back.",
        "Not a single problem with the {thing} in two years.",
    ),
    "negative": (
        "The {thing} broke after a week and nobody answers my letters.",
        "I hoped for more: the {thing} is slow and loud.",
        "The {thing} looks nice, but it was a waste of money.",
        "I would not give this {thing} to my worst enemy.",
    ),
}
TOPIC = {
    "sports": (
        "The goalkeeper of {city} saved two penalties in the last minutes.",
        "After five sets the player from {city} won the final.",
    ),
    "weather": (
        "Heavy rain and strong wind are expected in {city} until Friday.",
        "It will be sunny in {city}, with light clouds at night.",
    ),
    "business": (
        "The largest bank of {city} reported a fall of its profits.",
        "Shares of the car maker in {city} rose after it sold a factory.",
    ),
    "cooking": (
        "In {city} the soup is boiled with onions, butter and a little salt.",
        "Bakers in {city} let the dough rest for a night before it goes into the oven.",
    ),
}
INTENT = {
    "refund": (
        "I want my money back for the {thing}.",
        "You charged me twice for the {thing}; please return one payment.",
    ),
    "delivery": (
        "Where is the {thing} that you sent last week?",
        "The {thing} should have arrived on {day}. Is it still on its way?",
    ),
    "account": (
        "I cannot log in to look at my {thing}.",
        "Please change the e-mail address of my profile before I buy a {thing}.",
    ),
}
THINGS = [
    "kettle",
    "lamp",
    "radio",
    "heater",
    "printer",
    "camera",
    "blender",
    "vacuum",
    "drill",
    "scale",
]


def classification(draw: Random) -> Iterator[Item]:
    """Closed labels: half of the items are held to them, half choose a letter."""
    for number in range(68):
        task, texts = [("sentiment", SENTIMENT), ("topic", TOPIC), ("intent", INTENT)][number % 3]
        label = draw.choice(list(texts))
        places = {"city": draw.choice(CITIES), "thing": draw.choice(THINGS)}
        text = draw.choice(texts[label]).format(day=draw.choice(DAYS), **places)
        labels = draw.sample(list(texts), len(texts))
        if number % 2:
            asked = f'Choose the {task} of this text: "{text}" It is one of: {", ".join(labels)}.'
            yield _item(asked, "label", label, guided_choice=labels, max_tokens=8)
        else:
            options = "\n".join(f"{'ABCD'[i]}) {name}" for i, name in enumerate(labels))
            asked = (
                f'Which {task} does this text have: "{text}"\n{options}\nAnswer with the letter.'
            )
            yield _item(asked, "choice", "abcd"[labels.index(label)])


def code(draw: Random) -> Iterator[Item]:
    """Python functions, checked by asserts that the model does not see."""
    for signature, does, asserts in TASKS:
        text = f"Write a Python function `{signature}` that {does}. Give only the code."
        yield _item(text, "code", asserts, max_tokens=160)


if __name__ == "__main__":
    write()
