import json
from collections import Counter

import pytest

from inference_site.tools.evaluation.grading import is_right
from inference_site.tools.evaluation.records import ITEMS, FileError, read_items
from tests.inference_site.tools.mode_code_tasks import TASKS
from tests.inference_site.tools.mode_items import generate

# By the name of the function: a right answer.
SOLUTIONS = {
    "double_all": "lambda numbers: [2 * n for n in numbers]",
    "is_even": "lambda n: n % 2 == 0",
    "last_word": "lambda text: (text.split() or [''])[-1]",
    "count_vowels": "lambda text: sum(c in 'aeiou' for c in text.lower())",
    "reverse_words": "lambda text: ' '.join(reversed(text.split()))",
    "largest_gap": "lambda n: max(b - a for a, b in zip(sorted(n), sorted(n)[1:]))",
    "factorial": "lambda n: 1 if n == 0 else n * factorial(n - 1)",
    "is_palindrome": "lambda text: text.lower() == text.lower()[::-1]",
    "sum_of_digits": "lambda n: sum(map(int, str(n)))",
    "unique_in_order": "lambda items: list(dict.fromkeys(items))",
    "celsius": "lambda f: (f - 32) / 1.8",
    "middle": "lambda a, b, c: sorted([a, b, c])[1]",
    "initials": "lambda name: ''.join(w[0].upper() for w in name.split())",
    "count_words": "lambda text: {w: text.split().count(w) for w in text.split()}",
    "flatten": "lambda lists: sum(lists, [])",
    "clamp": "lambda value, low, high: max(low, min(high, value))",
    "common": "lambda a, b: sorted({*a} & {*b})",
    "is_prime": "lambda n: n > 1 and all(n % d for d in range(2, n))",
    "gcd": "lambda a, b: a if b == 0 else gcd(b, a % b)",
    "fibonacci": "lambda n: [0, 1, 1, 2, 3, 5][:n]",
    "second_largest": "lambda n: sorted({*n})[-2]",
    "running_total": "lambda n: [sum(n[:i]) for i in range(1, len(n) + 1)]",
    "caesar": "lambda text, shift: ''.join(chr((ord(c) - 97 + shift) % 26 + 97) "
    "if c.islower() else c for c in text)",
    "chunks": "lambda items, size: [items[i:i + size] for i in range(0, len(items), size)]",
    "to_binary": "lambda n: f'{n:b}'",
    "longest": "lambda words: max(words, key=len)",
    "is_leap_year": "lambda y: y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)",
    "without_vowels": "lambda text: ''.join(c for c in text if c.lower() not in 'aeiou')",
    "transpose": "lambda rows: [list(column) for column in zip(*rows)]",
    "invert": "lambda mapping: {v: k for k, v in mapping.items()}",
}


def test_items_are_those_of_the_generator():
    assert [json.loads(line) for line in ITEMS.read_text().splitlines()] == generate()


def test_items_are_enough_in_each_group():
    counts = Counter(item.group for item in read_items(ITEMS))
    assert counts.total() >= 300
    assert counts["extraction"] >= 60
    assert counts["classification"] >= 60
    assert 20 <= counts["code"] <= 40
    assert min(counts.values()) >= 20


def test_items_have_all_groups_in_every_first_part():
    assert len({item.group for item in read_items(ITEMS)[:16]}) == 8


def test_items_have_no_answer_that_is_always_right():
    golds = Counter(
        (item.group, item.check.kind, str(item.check.gold)) for item in read_items(ITEMS)
    )
    kinds = Counter((group, kind) for (group, kind, _), n in golds.items() for _ in range(n))
    for (group, kind, gold), count in golds.items():
        if kind in ("yes_no", "choice"):
            assert count <= 0.67 * kinds[group, kind], (group, kind, gold)


def test_items_are_answered_by_their_gold():
    for item in read_items(ITEMS):
        gold = item.check.gold
        if item.check.kind != "code":
            text = json.dumps(gold) if item.check.kind == "json" else gold
            text = ", ".join(gold) if item.check.kind == "order" else text
            assert is_right(text, item.check), item


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task[0])
def test_items_of_code_can_be_solved(task):
    name = task[0].partition("(")[0]
    check = next(item.check for item in read_items(ITEMS) if f"function `{task[0]}`" in item.prompt)
    assert is_right(f"Here it is:\n```python\n{name} = {SOLUTIONS[name]}\n```\nDone.", check)
    assert not is_right(f"def {task[0]}:\n    return None", check)


def test_items_that_cannot_be_used_are_refused(tmp_path):
    path = tmp_path / "items.jsonl"
    for content in ("", '{"id": "a"}', ITEMS.read_text().splitlines()[0] * 2):
        path.write_text(content)
        with pytest.raises(FileError, match=r"items\.jsonl"):
            read_items(path)
    path.write_text(ITEMS.read_text().splitlines()[0] + "\n" + ITEMS.read_text().splitlines()[0])
    with pytest.raises(FileError, match="id of its own"):
        read_items(path)
