"""A question to the totals: its range of time, buckets, groups and filters, and who asks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings

from metrics.ledger.slots import SLOT, slot_of
from metrics.visibility import Visibility

PERIODS: Final = ("hour", "day", "week", "month")
GROUPS: Final = ("version", "model", "preset", "mode", "kind", "tier", "user", "key", "team")
FORMATS: Final = ("json", "csv", "html")
LONGEST: Final = timedelta(days=5 * 366)
MOST_BUCKETS: Final = 2000
NONE: Final = "none"

_MANY: Final = ("group", "filter")
_KNOWN: Final = ("from", "to", "last", "tz", "period", "compare", "format", *_MANY)
_DAY: Final = timedelta(days=1)
_LONG: Final = 180 * _DAY


class BadQueryError(ValueError):
    """A parameter that makes no sense; ``param`` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Query:
    """Totals from ``since`` until before ``until``, both whole quarters of an hour in UTC.

    ``period`` is one of ``PERIODS`` in ``zone``, or empty for the whole range. A filter is a group
    and a value; several of one group are alternatives. ``until`` is never later than the quarter
    that ends after ``asked_at``.
    """

    since: datetime
    until: datetime
    zone: ZoneInfo
    asked_at: datetime
    visible: Visibility
    period: str = ""
    groups: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    compare: bool = False
    format: str = "json"

    @property
    def edges(self) -> list[datetime]:
        """The starts of the buckets, and the end of the last one; the first may be cut."""
        edges = [self.since]
        while (edge := self._next(edges[-1])) < self.until:
            edges.append(edge)
        return [*edges, self.until]

    @property
    def previous(self) -> "Query":
        """The time before, as long and, for ranges of whole days and today, up to the same hour."""
        first, after = self._day(self.since), self._day(self.until - SLOT) + _DAY
        if day_start(first, self.zone) != self.since:
            return replace(self, since=self.since - (self.until - self.since), until=self.since)
        since, until = day_start(first - (after - first), self.zone), self.since
        # Parts of days long ago are not kept, and of a long range they are little.
        if after - first <= _LONG:
            until -= day_start(after, self.zone) - self.until
        return replace(self, since=since, until=until)

    @property
    def day_edges(self) -> list[date] | None:
        """``edges`` as days of USAGE_TIME_ZONE, or None where they are no whole days of it."""
        *starts, end = self.edges
        days = [*map(self._day, starts), self._day(end - SLOT) + _DAY]
        moments = [day_start(day, self.zone) for day in days]
        if end >= self.asked_at:
            # Nothing has happened after the question, so a day that is not over is a whole one.
            moments[-1] = end
        is_whole = self.zone.key == settings.USAGE_TIME_ZONE and moments == [*starts, end]
        return days if is_whole else None

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def _next(self, moment: datetime) -> datetime:
        """The start of the next bucket."""
        if self.period == "hour":
            return moment + timedelta(minutes=60 - moment.astimezone(self.zone).minute)
        day = self._day(moment)
        nexts = {
            "day": day + _DAY,
            "week": day + (7 - day.weekday()) * _DAY,
            "month": (day.replace(day=1) + 32 * _DAY).replace(day=1),
        }
        return day_start(nexts[self.period], self.zone) if self.period else self.until


@dataclass(frozen=True)
class ReportRow:
    """One group in one bucket; ``group`` has a name for each, and ids where there are any."""

    since: datetime
    until: datetime
    group: dict[str, Any]

    def figures(self) -> dict[str, Any]:
        raise NotImplementedError


def day_start(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def read_query(
    params: Mapping[str, Sequence[str]],
    now: datetime,
    visible: Visibility,
    usual_last: str = "30d",
) -> Query:
    """The query that the parameters of an address ask; empty ones count as absent.

    Dates are days of ``tz``, ``to`` included; a moment without an offset is in ``tz``, too.
    ``usual_last`` is the range if they name none.

    Raises:
        BadQueryError: a parameter is unknown or makes no sense.
    """
    for name, values in params.items():
        if name not in _KNOWN:
            raise BadQueryError(name, f"Unknown parameter {name!r}. Known: {', '.join(_KNOWN)}.")
        if name not in _MANY and len(values) > 1:
            raise BadQueryError(name, f"{name!r} is given {len(values)} times: give it once.")
    given = {name: values[0] for name, values in params.items() if name not in _MANY and values[0]}
    zone = _zone(given.get("tz", settings.USAGE_TIME_ZONE))
    since, until = _range(given, zone, now, usual_last)
    groups = [name for text in params.get("group", ()) for name in text.split(",") if name]
    query = Query(
        since=since,
        until=until,
        zone=zone,
        asked_at=now,
        visible=visible,
        period=_choice("period", given.get("period", ""), PERIODS),
        groups=tuple(dict.fromkeys(_choice("group", name, GROUPS) for name in groups)),
        filters=tuple(_filter(text) for text in params.get("filter", ()) if text),
        compare=_choice("compare", given.get("compare", ""), ("previous",)) != "",
        format=_choice("format", given.get("format", ""), FORMATS) or "json",
    )
    if len(query.edges) > MOST_BUCKETS + 1:
        raise BadQueryError(
            "period",
            f"The range has more than {MOST_BUCKETS} times the period {query.period!r}. "
            "Choose a longer period or a shorter range.",
        )
    return query


def _choice(param: str, value: str, allowed: tuple[str, ...]) -> str:
    if value and value not in allowed:
        raise BadQueryError(param, f"{param}={value!r} is unknown. Known: {', '.join(allowed)}.")
    return value


def _filter(text: str) -> tuple[str, str]:
    field, _, value = text.partition(":")
    if not field or not value or "\0" in value:
        raise BadQueryError(
            "filter", f"filter={text!r}: expected group:value, such as model:my-model."
        )
    return _choice("filter", field, GROUPS), value


def _zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, KeyError):
        raise BadQueryError(
            "tz", f"tz={key!r} is no time zone. Use a name such as Europe/Berlin or UTC."
        ) from None


def _range(
    given: dict[str, str], zone: ZoneInfo, now: datetime, usual_last: str
) -> tuple[datetime, datetime]:
    until = min(_moment("to", given["to"], zone), now) if "to" in given else now
    last = given.get("last") or ("" if given.keys() & {"from", "to"} else usual_last)
    if last and given.keys() & {"from", "to"}:
        raise BadQueryError("last", "'last' stands alone: remove 'from' and 'to'.")
    if not last and "from" not in given:
        raise BadQueryError("from", "'from' is missing: 'to' alone is no range.")
    since = _since_last(last, zone, now) if last else _moment("from", given["from"], zone)
    if since >= until:
        raise BadQueryError("from", "'from' must be before 'to', and not in the future.")
    if until - since > LONGEST:
        param = "last" if last else "from"
        raise BadQueryError(param, "The range is longer than 5 years. Choose a shorter one.")
    # A moment that is a whole quarter of an hour stays.
    return slot_of(since), slot_of(until - datetime.resolution) + SLOT


def _since_last(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The start of the last hours, or of the last days and weeks with today as the last day."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", text)
    if match is None:
        raise BadQueryError("last", f"last={text!r}: expected a length such as 12h, 30d or 8w.")
    number = int(match[1])
    if match[2] == "h":
        return now - timedelta(hours=number)
    days = number * (7 if match[2] == "w" else 1)
    return day_start(now.astimezone(zone).date() - (days - 1) * _DAY, zone)


def _moment(param: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        if "T" not in text:
            return day_start(date.fromisoformat(text) + (param == "to") * _DAY, zone)
        # A plus sign that is not escaped in an address arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadQueryError(
            param, f"{param}={text!r}: expected a date such as 2026-10-25, or 2026-10-25T14:00."
        ) from None
