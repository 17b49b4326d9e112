"""The table of a comparison, in Markdown."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from caching.semantic.shadow import wilson
from inference_site.tools.evaluation.grading import is_right, majority
from inference_site.tools.evaluation.records import Item, Result
from inference_site.tools.evaluation.runner import GREEDY, PANEL, PLACEBO, SINGLE, Runner
from inference_site.tools.evaluation.statistics import holm, paired, verdict

_COLUMNS = ("arm", "n", "right %", "to single", "wins : losses", "p", "to equal tokens")
_COSTS = ("tokens", "seconds", "verdict")
_NOTES = """\
Right %: with the 95 % interval of Wilson. To single: points, on the same items; p: exact McNemar
test, for modes corrected by Holm. To equal tokens: points to a vote of N single answers at
temperature 0.7, so many that they take at least the tokens of the mode (\\*: fewer, as no more were
asked for). Any of N: one of them is right. Placebo: a merge of three answers to another question.
Tokens: generated ones; they and the seconds, under load, as multiples of a single answer's.
**Pays**: p < 0.05, and more right than the vote. **Costs**: p < 0.05, and less right than single.
"""


@dataclass(frozen=True)
class Arm:
    """Graded answers by item, and the means of their costs. An answer that failed is wrong."""

    name: str
    right: Mapping[str, bool]
    tokens: float
    seconds: float = 0.0
    failed: int = 0


def markdown(run: Runner) -> str:
    """The table of all arms, and the shares of right answers in each group."""
    items, of = run.items, run.answers
    single, *modes = (_arm(name, items, of[name]) for name in (SINGLE, *run.arms))
    panel = {name: one for name, one in of[PANEL].items() if one.texts}
    votes = {arm.name: _vote(items, panel, arm.tokens) for arm in modes}
    others = [_arm(name, items, of.get(name, {})) for name in (GREEDY, PLACEBO)]
    others.append(_arm(f"any of {run.votes}", items, panel))
    arms = [single, *modes, *{vote.name: vote for vote in votes.values()}.values(), *others]
    arms = [arm for arm in arms if arm.right]
    versions = {v for name in run.arms for one in of[name].values() for v in one.versions}
    days = sorted({one.day for answers in of.values() for one in answers.values()})
    head = (
        f"Single answers by {run.version}, modes by {', '.join(sorted(versions)) or 'nobody'}; "
        f"{len(items)} items, seed {run.seed}, {' to '.join(dict.fromkeys((days[0], days[-1])))}."
    )
    return "\n".join([head, "", _main(arms, votes), _NOTES, _by_group(items, arms)])


def _arm(name: str, items: Sequence[Item], of: Mapping[str, Result], votes: int = 0) -> Arm:
    """Grade answers; of a panel, the majority of the first ``votes``, or else any text."""
    right = {}
    for item in items:
        if item.id in of:
            texts = of[item.id].texts
            texts = [majority(texts[:votes], item.check)] if votes else texts
            right[item.id] = any(is_right(text, item.check) for text in texts)
    heard = [of[name] for name in right if not of[name].error]
    tokens = [one.tokens * (votes / len(one.texts) if votes else 1) for one in heard]
    seconds = [one.seconds for one in heard if len(one.texts) == 1]
    return Arm(name, right, fmean(tokens or [0]), fmean(seconds or [0]), len(right) - len(heard))


def _vote(items: Sequence[Item], panel: Mapping[str, Result], tokens: float) -> Arm:
    """The vote of so many single answers that they take ``tokens``, or of all there are."""
    known = [panel[item.id] for item in items if item.id in panel]
    each = fmean([one.tokens / len(one.texts) for one in known] or [1]) or 1
    most = min((len(one.texts) for one in known), default=1)
    count = max(1, min(most, ceil(tokens / each)))
    return _arm(f"vote of {count}", items, panel, count)


def _main(arms: Sequence[Arm], votes: Mapping[str, Arm]) -> str:
    single = arms[0]
    to_single = {arm.name: paired(arm.right, single.right) for arm in arms}
    corrected = holm({name: to_single[name].p_value for name in votes if name in to_single})
    lines = []
    for arm in arms:
        versus, is_mode = to_single[arm.name], arm.name in corrected
        p_value = corrected.get(arm.name, versus.p_value)
        cells = [arm.name, f"{len(arm.right)}", _share(arm.right.values()), "", "", "", ""]
        if arm.failed:
            cells[1] += f" ({arm.failed} failed)"
        if arm is not single:
            p_shown = f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"
            cells[3:6] = f"{versus.points:+.1f}", f"{versus.wins} : {versus.losses}", p_shown
        if is_mode:
            vote = votes[arm.name]
            to_vote = paired(arm.right, vote.right)
            mark = "\\*" if vote.tokens < arm.tokens else ""
            cells[6] = f"{to_vote.points:+.1f} ({vote.name}{mark})"
        for cost, of in ((arm.tokens, single.tokens), (arm.seconds, single.seconds)):
            cells.append(f"{cost / of:.1f} \xd7" if cost and of else "")
        cells.append(f"**{verdict(p_value, versus, to_vote)}**" if is_mode else "")
        lines.append(cells)
    return _table((*_COLUMNS, *_COSTS), lines)


def _by_group(items: Sequence[Item], arms: Sequence[Arm]) -> str:
    groups = Counter(item.group for item in items)
    lines = [["right %", *(f"{group} ({count})" for group, count in groups.items())]]
    for arm in arms:
        known = [(item.group, arm.right[item.id]) for item in items if item.id in arm.right]
        lines.append([arm.name, *(_share([r for g, r in known if g == group]) for group in groups)])
    return _table(lines[0], lines[1:])


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def _share(right: Collection[bool]) -> str:
    if not right:
        return ""
    low, high = wilson(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.0f} [{100 * low:.0f}, {100 * high:.0f}]"
