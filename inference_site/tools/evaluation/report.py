"""The table of a comparison, in Markdown."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from statistics import fmean

from caching.semantic.shadow import wilson
from inference_site.tools.evaluation.grading import is_right, majority
from inference_site.tools.evaluation.items import Item
from inference_site.tools.evaluation.results import Result, Results
from inference_site.tools.evaluation.runner import GREEDY, PANEL, PLACEBO, SINGLE, VOTE_TEMPERATURE
from inference_site.tools.evaluation.statistics import holm, paired, verdict

_COLUMNS = (
    *("arm", "n", "right %", "to single", "wins : losses", "p", "to a vote of equal tokens"),
    *("tokens", "seconds", "verdict"),
)
_NOTES = f"""
Right %: with the 95 % interval of Wilson. To single: in points, on the same items; p: exact McNemar
test, for modes corrected by Holm. Vote of N: the majority of N single answers at temperature
{VOTE_TEMPERATURE}, so many that they take at least the tokens of the mode (\\*: fewer tokens, as no
more answers were asked for). Any of N: one of them is right. Placebo: a merge of three answers to
another question. Tokens: generated ones; they and the seconds, under load, as multiples of single.
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


def markdown(items: Sequence[Item], results: Results, modes: Sequence[str]) -> str:
    """The table of all arms, and the shares of right answers in each group."""
    asked = [_arm(name, items, results.arm(name)) for name in (SINGLE, *modes)]
    panel = {name: one for name, one in results.arm(PANEL).items() if one.texts}
    votes = {arm.name: _vote(items, panel, arm.tokens) for arm in asked[1:]}
    others = [_arm(name, items, results.arm(name)) for name in (GREEDY, PLACEBO)]
    most = min((len(one.texts) for one in panel.values()), default=0)
    others.append(_arm(f"any of {most}", items, panel))
    arms = [*asked, *{vote.name: vote for vote in votes.values()}.values(), *others]
    versions = {v for name in modes for one in results.arm(name).values() for v in one.versions}
    setup = results.setup
    head = (
        f"Single answers by {setup.version}, modes by {', '.join(sorted(versions))}. "
        f"{len(items)} items of `{setup.items}`, seed {setup.seed}, "
        f"{setup.began} to {datetime.now(UTC):%Y-%m-%d}."
    )
    rows = _rows([arm for arm in arms if arm.right], votes)
    return "\n\n".join([head, rows, _NOTES.strip(), _by_group(items, arms)]) + "\n"


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
    name = f"vote of {count}" + ("\\*" if count * each < tokens else "")
    return _arm(name, items, panel, count)


def _rows(arms: Sequence[Arm], votes: Mapping[str, Arm]) -> str:
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
            cells[6] = f"{to_vote.points:+.1f} ({vote.name})"
        for cost, of in ((arm.tokens, single.tokens), (arm.seconds, single.seconds)):
            cells.append(f"{cost / of:.1f} \xd7" if cost and of else "")
        cells.append(f"**{verdict(p_value, versus, to_vote)}**" if is_mode else "")
        lines.append(cells)
    return _table(_COLUMNS, lines)


def _by_group(items: Sequence[Item], arms: Sequence[Arm]) -> str:
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item.id)
    lines = []
    for arm in arms:
        shares = ([arm.right[name] for name in g if name in arm.right] for g in groups.values())
        lines.append([arm.name, *map(_share, shares)])
    heads = [f"{group} ({len(names)})" for group, names in groups.items()]
    return _table(["right % by group", *heads], lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def _share(right: Collection[bool]) -> str:
    if not right:
        return ""
    low, high = wilson(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.0f} [{100 * low:.0f}, {100 * high:.0f}]"
