"""A month of invented requests: working days, an outage, a rollout, and caches in its last days."""

import math
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model

from inference.models import ApiKey, Membership, Scope, Team, issue_key
from metrics.ledger.corrections import Charge, correct
from metrics.ledger.cost import Rates, cost_nano
from metrics.ledger.entry import Entry
from metrics.ledger.partitions import ensure_partitions
from metrics.ledger.roll import roll
from metrics.ledger.slots import SLOT, slot_of
from metrics.models import FleetSample, RefusedSlot, RequestRecord, RequestStep
from metrics.recorder import write

_SECOND: Final = 1_000_000
_WEEKDAYS: Final = (1.0, 1.1, 1.05, 1.0, 0.85, 0.25, 0.2)
_ID_STARTS: Final = {"chat": "chatcmpl", "completion": "cmpl", "embedding": "embd"}


class NotEmptyError(Exception):
    """The installation is in use."""


@dataclass(frozen=True)
class Version:
    """Speeds in tokens a second, prices in nano-dollars a million tokens, memory in bytes."""

    key: str
    kind: str
    prefill: float
    decode: float
    rates: Rates
    resident_bytes: int


_CHAT_RATES: Final = Rates(1_500_000_000, 150_000_000, 6_000_000_000, 0)
_CODER_RATES: Final = Rates(300_000_000, 30_000_000, 900_000_000, 0)
_EMBEDDER_RATES: Final = Rates(80_000_000, 80_000_000, 0, 0)
CHAT: Final = "qwen3-8b"
OLD: Final = Version(f"{CHAT}@q4_k_m", "chat", 1500, 38, _CHAT_RATES, 6_900_000_000)
NEW: Final = Version(f"{CHAT}@q5_k_m", "chat", 1700, 44, _CHAT_RATES, 7_800_000_000)
CODER: Final = Version(
    "qwen2.5-coder-0.5b@q8_0", "completion", 7000, 150, _CODER_RATES, 900_000_000
)
EMBEDDER: Final = Version(
    "all-minilm-l6-v2@f16", "embedding", 24_000, 0, _EMBEDDER_RATES, 110_000_000
)
# Until a fifth of the month has passed, the coder has these rates, which are corrected later.
WRONG: Final = (0.2, _CODER_RATES._replace(completion=90_000_000))


@dataclass
class Caller:
    """A key that sends ``daily`` requests on a usual working day, and their mean lengths.

    ``by_night`` is the part of the requests that comes at any hour, ``repeats`` the part that asks
    for something that was asked before.
    """

    user: str
    key_name: str
    team: str
    model: str
    daily: int
    prompt_tokens: int
    completion_tokens: int
    by_night: float = 0.05
    repeats: float = 0.02
    mode: str = "single"
    key: Any = None


TEAMS: Final = {"search": "Search", "support": "Support desk", "research": "Research"}
OWNERS: Final = ("ann", "cara", "eli")
CALLERS: Final = (
    Caller("ann", "indexer", "search", EMBEDDER.key, 420, 260, 0, 0.7, 0),
    Caller("bob", "query rewriter", "search", CHAT, 210, 180, 60, 0.15, 0.2),
    Caller("cara", "helpdesk bot", "support", CHAT, 520, 900, 240, 0.1, 0.35),
    Caller("dan", "mail drafts", "support", CHAT, 150, 650, 320),
    Caller("eli", "notebooks", "research", CHAT, 90, 2600, 700, 0.3),
    Caller("fay", "editor plugin", "research", CODER.key, 380, 1400, 45),
    Caller("gus", "experiments", "", CHAT, 40, 400, 400, 0.5, mode="council"),
)


def make_usage(now: datetime, days: int) -> int:
    """Store invented accounts and requests until ``now``, and compute totals; count the requests.

    Raises:
        NotEmptyError: there is a request, a team, or a user beside the first administrator.
    """
    users = get_user_model().objects
    if RequestRecord.objects.exists() or Team.objects.exists() or users.count() > 1:
        raise NotEmptyError(
            "This installation has requests, teams or users. Invented ones are made only where "
            "they mix with nobody's: start one with another BRIGADE_HOME."
        )
    _make_accounts()
    month = Month(now, days)
    # This call makes the partition of the month after, too.
    ensure_partitions(month.first)
    ensure_partitions(now)
    batches = (batch for number in range(days) if (batch := month.entries(number)))
    count = sum(len(write(batch)) for batch in batches)
    RefusedSlot.objects.bulk_create(
        RefusedSlot(slot=slot, code=code, requests=number)
        for (slot, code), number in month.refused.items()
    )
    # The controller has sampled the fleet since the service was started.
    FleetSample.objects.bulk_create(month.samples(), batch_size=2000, ignore_conflicts=True)
    correct(
        CODER.key,
        [Charge(0, month.first, CODER.rates)],
        month.first,
        month.first + timedelta(days=days * WRONG[0]),
        reason="The price of completions was typed a tenth of what it is.",
        made_by="admin",
    )
    while roll():
        pass
    return count


def _make_accounts() -> None:
    users = get_user_model().objects
    teams = {slug: Team.objects.create(slug=slug, name=name) for slug, name in TEAMS.items()}
    for caller in CALLERS:
        user = users.create_user(caller.user, is_staff=True)
        scopes = [Scope.INFERENCE.value, Scope.METRICS_READ.value]
        caller.key, _ = issue_key(user, caller.key_name, scopes)
        if caller.team:
            team = caller.key.team = teams[caller.team]
            role = Membership.Role.OWNER if caller.user in OWNERS else Membership.Role.MEMBER
            Membership.objects.create(team=team, user=user, role=role)
            ApiKey.objects.filter(pk=caller.key.pk).update(team=team)


class Month:
    """The requests of some days, equal each time; ``refused`` is filled while they are made."""

    def __init__(self, now: datetime, days: int) -> None:
        self.now = now.astimezone(UTC)
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        self.first = midnight - timedelta(days=days - 1)
        self.days = days
        self.chance = random.Random(1)  # noqa: S311
        self.refused: Counter[tuple[datetime, str]] = Counter()
        middle = self.first + timedelta(days=days // 2)
        wednesday = middle + timedelta(days=(2 - middle.weekday()) % 7)
        outage = wednesday + timedelta(hours=13, minutes=35)
        self.outage = (outage, outage + timedelta(minutes=90))

    def part(self, moment: datetime) -> float:
        """The part of the month that has passed."""
        return (moment - self.first) / timedelta(days=self.days)

    def entries(self, number: int) -> list[Entry]:
        """The accepted requests of a day, in the order of time."""
        day = self.first + timedelta(days=number)
        arrivals = sorted(
            (moment, index)
            for index, caller in enumerate(CALLERS)
            for moment in self._arrivals(caller, day)
            if moment < self.now - timedelta(minutes=1)
        )
        return [entry for moment, i in arrivals if (entry := self._request(CALLERS[i], moment))]

    def _arrivals(self, caller: Caller, day: datetime) -> Iterator[datetime]:
        """Moments of a day: a bell around 13:00 with a dip at noon, and some at any hour."""
        busy = _WEEKDAYS[day.weekday()] * (1 - caller.by_night) + caller.by_night
        mean = caller.daily * busy * (0.85 + 0.3 * self.part(day))
        for _ in range(max(0, round(self.chance.gauss(mean, mean**0.5 + 0.06 * mean)))):
            if self.chance.random() < caller.by_night:
                hour = self.chance.uniform(0, 24)
            else:
                hour = self.chance.gauss(*self.chance.choice(((10.2, 1.5), (15, 1.8))))
            yield day + timedelta(hours=min(max(hour, 0), 23.99))

    def _version(self, caller: Caller, moment: datetime) -> Version:
        """The new version answers a tenth after half of the month, and soon all."""
        if caller.model != CHAT:
            return CODER if caller.model == CODER.key else EMBEDDER
        part = self.part(moment)
        share = 0.0 if part < 0.53 else 0.1 if part < 0.63 else 1.0
        return NEW if self.chance.random() < share else OLD

    def _request(self, caller: Caller, moment: datetime) -> Entry | None:
        version, draw = self._version(caller, moment), self.chance.random()
        broken = self.outage[0] <= moment < self.outage[1] and caller.model == CHAT
        if broken and draw < 0.5:
            self.refused[slot_of(moment), "model_unavailable"] += 1
            return None
        if self._load(moment) > 0.9 and draw > 0.985:
            self.refused[slot_of(moment), "model_busy"] += 1
            return None
        record = self._finished(caller, version, moment)
        steps: list[RequestStep] = []
        if broken and draw < 0.85:
            self._fail(record, "host_lost" if draw < 0.75 else "queue_timeout")
        elif broken:
            version, steps = CODER, self._fall_back(record)
        elif self.part(moment) > 0.75 and self.chance.random() < caller.repeats:
            record.tier = self.chance.choices(("exact", "retyped"), (0.7, 0.3))[0]
            _take_work_away(record)
            record.ttft_us = round(self.chance.uniform(1_500, 30_000))
            record.total_us = record.ttft_us + 1_000
        elif draw < 0.003:
            self._fail(record, self.chance.choice(("host_lost", "queue_timeout", "grammar_failed")))
        elif draw < 0.02 and record.completion_tokens > 2:
            record.outcome = RequestRecord.Outcome.CANCELLED
            _shorten(record, self.chance.uniform(0.05, 0.9))
        if not record.tier:
            rates = WRONG[1] if version is CODER and self.part(moment) < WRONG[0] else version.rates
            tokens = (record.prompt_tokens, record.cached_tokens, record.completion_tokens)
            record.cost_nano = cost_nano(rates, *tokens, record.device_us)
        record.settled_at = moment + timedelta(microseconds=record.total_us + 40_000)
        names = [("user", caller.key.user_id, caller.user), ("key", caller.key.pk, caller.key_name)]
        if caller.team:
            names.append(("team", caller.key.team_id, TEAMS[caller.team]))
        return Entry(record, steps, names)

    def _finished(self, caller: Caller, version: Version, moment: datetime) -> RequestRecord:
        prompt = self._tokens(caller.prompt_tokens)
        completion = self._tokens(caller.completion_tokens)
        cached = int(prompt * self.chance.betavariate(2, 3)) if completion else 0
        # The old version had fewer places.
        wait = (0.03 + (1.1 if version is OLD else 0.35) * self._load(moment) ** 3) * _SECOND
        queue = self.chance.expovariate(1 / wait)
        prefill = (prompt - cached) / version.prefill * self._noise() * _SECOND + 9_000
        decode = completion / version.decode * self._noise() * _SECOND if completion else 0.0
        return RequestRecord(
            run_id=f"{_ID_STARTS[version.kind]}-{self._hex()}",
            request_id=self._hex(),
            started_at=moment,
            kind=version.kind,
            user_id=caller.key.user_id,
            key_id=caller.key.pk,
            team_id=caller.key.team_id,
            requested_model=caller.model,
            version_key=version.key,
            mode=caller.mode,
            streamed=completion > 0,
            outcome=RequestRecord.Outcome.FINISHED,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            computed_prompt_tokens=prompt - cached,
            computed_completion_tokens=completion,
            queue_us=round(queue),
            ttft_us=round(queue + prefill) if completion else None,
            prefill_us=round(prefill),
            decode_us=round(decode) if completion else None,
            total_us=round(queue + prefill + decode + 4_000),
            device_us=round(prefill * 0.8 + decode * 0.3),
        )

    def _fail(self, record: RequestRecord, code: str) -> None:
        """A part of the answer was computed before, unless the request only waited."""
        record.outcome, record.error_code = RequestRecord.Outcome.FAILED, code
        if code == "queue_timeout":
            _take_work_away(record)
            record.prompt_tokens = record.cached_tokens = record.completion_tokens = 0
            record.ttft_us, record.queue_us, record.total_us = None, 60 * _SECOND, 60 * _SECOND
        else:
            _shorten(record, self.chance.random())

    def _fall_back(self, record: RequestRecord) -> list[RequestStep]:
        """The first attempt fails, and the small model answers."""
        lost_us = round(self.chance.uniform(2, 9) * _SECOND)
        at = {"run_id": record.run_id, "started_at": record.started_at, "kind": "attempt"}
        first = RequestStep(
            **at,
            number=0,
            version_key=record.version_key,
            outcome=RequestRecord.Outcome.FAILED,
            error_code="host_lost",
            queue_us=lost_us,
        )
        record.fallback, record.version_key = True, CODER.key
        record.ttft_us = lost_us + (record.prefill_us or 0)
        record.queue_us = lost_us
        record.decode_us = round(record.completion_tokens / CODER.decode * self._noise() * _SECOND)
        record.total_us = record.ttft_us + record.decode_us + 4_000
        facts = ("version_key", "outcome", "prompt_tokens", "cached_tokens", "completion_tokens")
        times = ("prefill_us", "decode_us", "device_us")
        same = {name: getattr(record, name) for name in facts + times}
        return [first, RequestStep(**at, number=1, **same)]

    def _load(self, moment: datetime) -> float:
        """The load of the hosts, from 0 to about 1.2."""
        hour = moment.hour + moment.minute / 60
        bells = math.exp(-(((hour - 10.2) / 1.8) ** 2)) + math.exp(-(((hour - 15) / 2) ** 2))
        return _WEEKDAYS[moment.weekday()] * bells

    def _tokens(self, mean: int) -> int:
        return max(1, round(self.chance.lognormvariate(math.log(mean), 0.6))) if mean else 0

    def _noise(self) -> float:
        return self.chance.lognormvariate(0, 0.22)

    def _hex(self) -> str:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4).hex

    def samples(self) -> Iterator[FleetSample]:
        """The memory of each version: the coder leaves at night, the old version after its end."""
        before: list[Version] = []
        moment = self.first
        while moment < self.now:
            held = [one for one in (OLD, NEW, CODER, EMBEDDER) if self._is_held(one, moment)]
            for version in held:
                yield FleetSample(
                    taken_at=moment,
                    node=settings.NODE_NAME,
                    version_key=version.key,
                    resident_bytes=version.resident_bytes,
                    loads=int(version not in before),
                )
            before = held
            moment += SLOT

    def _is_held(self, version: Version, moment: datetime) -> bool:
        if version is CODER:
            return 6 <= moment.hour < 21 and (moment.weekday() < 5 or moment.hour % 6 < 2)
        if version is EMBEDDER:
            return True
        is_out = self.outage[0] <= moment < self.outage[1]
        part = self.part(moment)
        return not is_out and (part < 0.66 if version is OLD else part >= 0.53)


def _take_work_away(record: RequestRecord) -> None:
    """No engine worked for it."""
    record.queue_us = record.prefill_us = record.decode_us = None
    record.computed_prompt_tokens = record.computed_completion_tokens = record.device_us = 0


def _shorten(record: RequestRecord, part: float) -> None:
    """Keep a part of the completion and of its time."""
    removed_us = round((record.decode_us or 0) * (1 - part))
    record.completion_tokens = int(record.completion_tokens * part)
    record.computed_completion_tokens = record.completion_tokens
    record.decode_us = (record.decode_us or 0) - removed_us
    record.device_us -= round(removed_us * 0.3)
    record.total_us -= removed_us
