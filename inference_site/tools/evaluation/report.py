"""The table of a comparison, in Markdown: pure, but for the run of code that is graded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from statistics import fmean

from caching.semantic.shadow import wilson
from inference_site.tools.evaluation.grading import is_right, majority
from inference_site.tools.evaluation.items import Item
from inference_site.tools.evaluation.results import Result, Results
from inference_site.tools.evaluation.runner import GREEDY, PANEL, PLACEBO, SINGLE, VOTE_TEMPERATURE
from inference_site.tools.evaluation.statistics import Paired, holm, paired, verdict

_HEAD = (
    "| arm | n | right % | to single | wins : losses | p | to as many tokens | tokens | seconds "
    "| verdict |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
)

_NOTES = f"""
Right %: with the 95 % interval of Wilson. p: exact McNemar against single answers on the same
items; for modes corrected by Holm. To as many tokens: the difference in points to a vote of single
answers (temperature {VOTE_TEMPERATURE}) that takes at least the tokens of the mode; \\*: fewer, as
there are no more answers. Tokens: all that were generated, and seconds: with all requests at a time,
both as multiples of the single answer's. Placebo: one merge of three answers to another question.
**Pays**: p < 0.05, and more right than the vote. **Costs**: p < 0.05, and less right than single.
"""


@dataclass(frozen=True)
class Arm:
    """Graded answers by item."""

    name: str
    right: Mapping[str, bool]
    tokens: float
    seconds: float | None = None
    partial: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Graded:
    """All arms; ``votes`` has, by mode, the vote that takes as many tokens."""

    single: Arm
    others: Sequence[Arm]
    modes: Sequence[Arm]
    votes: Mapping[str, Arm]

    @property
    def all(self) -> list[Arm]:
        """Every arm once, in the order of the table."""
        votes = {vote.name: vote for vote in self.votes.values()}
        return [self.single, *self.modes, *votes.values(), *self.others]


def graded(items: Sequence[Item], results: Results, modes: Sequence[str]) -> Graded:
    """Grade all answers. An answer that failed is wrong."""
    arms = {name: _arm(name, items, results.arm(name)) for name in (SINGLE, *modes)}
    votes = {}
    for name in modes:
        if found := _votes(items, results.arm(PANEL), arms[name].tokens):
            votes[name] = found
    others = [_arm(name, items, results.arm(name)) for name in (GREEDY, PLACEBO)]
    others.append(_oracle(items, results.arm(PANEL)))
    return Graded(
        arms[SINGLE], [one for one in others if one.right], [arms[m] for m in modes], votes
    )


def markdown(items: Sequence[Item], results: Results, modes: Sequence[str]) -> str:
    """The table of all arms, and the shares of right answers in each group."""
    arms = graded(items, results, modes)
    return "\n".join([_facts(items, results, modes), _table(arms), _by_group(items, arms)])


def _arm(name: str, items: Sequence[Item], answers: Mapping[str, Result]) -> Arm:
    known = [(item, answers[item.id]) for item in items if item.id in answers]
    right = {item.id: bool(one.texts) and is_right(one.texts[0], item.check) for item, one in known}
    heard = [one for _, one in known if not one.error]
    return Arm(
        name,
        right,
        fmean(one.tokens for one in heard) if heard else 0.0,
        fmean(one.seconds for one in heard) if heard else None,
        sum(one.is_partial for one in heard),
        len(known) - len(heard),
    )


def _votes(items: Sequence[Item], panel: Mapping[str, Result], tokens: float) -> Arm | None:
    """The majority of so many single answers that they take ``tokens``, or of all there are."""
    known = [(item, panel[item.id]) for item in items if item.id in panel and panel[item.id].texts]
    if not known:
        return None
    each = fmean(one.tokens / len(one.texts) for _, one in known)
    count = min(max(1, ceil(tokens / each)) if each else 1, min(len(one.texts) for _, one in known))
    right = {
        item.id: is_right(majority(one.texts[:count], item.check), item.check)
        for item, one in known
    }
    return Arm(f"vote of {count}", right, each * count)


def _oracle(items: Sequence[Item], panel: Mapping[str, Result]) -> Arm:
    """Right where any single answer is."""
    known = [(item, panel[item.id]) for item in items if item.id in panel and panel[item.id].texts]
    right = {item.id: any(is_right(text, item.check) for text in one.texts) for item, one in known}
    count = min((len(one.texts) for _, one in known), default=0)
    return Arm(f"any of {count} right", right, fmean(o.tokens for _, o in known) if known else 0.0)


def _facts(items: Sequence[Item], results: Results, modes: Sequence[str]) -> str:
    setup = results.setup
    seen = {
        version for name in modes for one in results.arm(name).values() for version in one.versions
    }
    lines = [
        f"Single answers: `{setup.version}`. Modes: {', '.join(f'`{v}`' for v in sorted(seen))}.",
        f"{len(items)} items (`{setup.items}`), seed {setup.seed}, "
        f"{setup.began[:10]} to {datetime.now(UTC):%Y-%m-%d}.",
    ]
    return " ".join(lines) + "\n"


def _table(arms: Graded) -> str:
    to_single = {arm.name: paired(arm.right, arms.single.right) for arm in arms.all}
    corrected = holm((mode.name, to_single[mode.name].p_value) for mode in arms.modes)
    rows = [_row(arms, arm, to_single[arm.name], corrected) for arm in arms.all]
    return _HEAD + "".join(rows) + _NOTES


def _row(arms: Graded, arm: Arm, to_single: Paired, corrected: Mapping[str, float]) -> str:
    is_single = arm is arms.single
    p_value = corrected.get(arm.name, to_single.p_value)
    vote = arms.votes.get(arm.name)
    versus = paired(arm.right, vote.right) if vote else None
    said = ""
    if arm.name in corrected:
        said = verdict(p_value, to_single, versus) if versus else "not shown"
    mark = "\\*" if vote and vote.tokens < arm.tokens else ""
    cells = [
        arm.name,
        str(len(arm.right)),
        _share(list(arm.right.values())),
        "" if is_single else f"{to_single.difference * 100:+.1f}",
        "" if is_single else f"{to_single.wins} : {to_single.losses}",
        "" if is_single else f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001",
        f"{versus.difference * 100:+.1f} ({vote.name}{mark})" if vote and versus else "",
        _times(arm.tokens, arms.single.tokens),
        _times(arm.seconds, arms.single.seconds),
        f"**{said}**" if said else "",
    ]
    return f"| {' | '.join(cells)} |\n"


def _by_group(items: Sequence[Item], arms: Graded) -> str:
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item.id)
    lines = [["group", "n", *(arm.name for arm in arms.all)]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for group, names in sorted(groups.items()):
        shares = [_share([arm.right[i] for i in names if i in arm.right]) for arm in arms.all]
        lines.append([group, str(len(names)), *shares])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _share(right: Sequence[bool]) -> str:
    if not right:
        return ""
    low, high = wilson(sum(right), len(right))
    return f"{sum(right) / len(right):.0%} [{low:.0%}, {high:.0%}]".replace("%", "")


def _times(value: float | None, of: float | None) -> str:
    return f"{value / of:.1f} \xd7" if value and of else ""
