"""A question to the totals: its range of time, buckets, groups and filters, and who asks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
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

_SINGLE: Final = ("from", "to", "last", "tz", "period", "compare", "format")
_MANY: Final = ("group", "filter")


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
        while len(edges) <= MOST_BUCKETS and (edge := self._next(edges[-1])) < self.until:
            edges.append(edge)
        return [*edges, self.until]

    @property
    def previous(self) -> "Query":
        """The time before, as long and, for ranges that begin with a day, up to the same hour."""
        if day_start(self._local(self.since).date(), self.zone) != self.since:
            return replace(self, since=self.since - (self.until - self.since), until=self.since)
        last = self._local(self.until - SLOT).date()
        days = timedelta(days=(last - self._local(self.since).date()).days + 1)
        return replace(
            self, since=self._shift(self.since, days), until=self._shift(self.until, days)
        )

    @property
    def day_edges(self) -> list[date] | None:
        """``edges`` as days of USAGE_TIME_ZONE, or None where they are no whole days of it."""
        if self.zone.key != settings.USAGE_TIME_ZONE:
            return None
        *starts, end = self.edges
        days = [self._local(edge).date() for edge in starts]
        after = self._local(end - SLOT).date() + timedelta(days=1)
        # Nothing has happened after the question, so a day that is not over is a whole one.
        if end < self.asked_at and end != day_start(after, self.zone):
            return None
        is_whole = [day_start(day, self.zone) for day in days] == starts
        return [*days, after] if is_whole else None

    def _shift(self, moment: datetime, days: timedelta) -> datetime:
        """The same time of the clock some days earlier."""
        local = self._local(moment)
        if day_start(local.date(), self.zone) == moment:
            return day_start(local.date() - days, self.zone)
        earlier = local.replace(tzinfo=None, fold=0) - days
        return earlier.replace(tzinfo=self.zone).astimezone(UTC)

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)

    def _next(self, moment: datetime) -> datetime:
        """The start of the next bucket."""
        local = self._local(moment)
        if self.period == "hour":
            return moment + timedelta(minutes=60 - local.minute)
        day = local.date()
        if self.period == "day":
            day += timedelta(days=1)
        elif self.period == "week":
            day += timedelta(days=7 - day.weekday())
        elif self.period == "month":
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        else:
            return self.until
        return day_start(day, self.zone)


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
    known = (*_SINGLE, *_MANY)
    for name, values in params.items():
        if name not in known:
            raise BadQueryError(name, f"Unknown parameter {name!r}. Known are {', '.join(known)}.")
        if name in _SINGLE and len(values) > 1:
            raise BadQueryError(name, f"{name!r} is given {len(values)} times: give it once.")
    given = {name: values[0] for name, values in params.items() if name in _SINGLE and any(values)}
    if not given.keys() & {"from", "to"}:
        given.setdefault("last", usual_last)
    zone = _zone(given.get("tz") or settings.USAGE_TIME_ZONE)
    since, until = _range(given, zone, now)
    query = Query(
        since=since,
        until=until,
        zone=zone,
        asked_at=now,
        visible=visible,
        period=_choice("period", given.get("period", ""), PERIODS),
        groups=_groups(params.get("group", ())),
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
        raise BadQueryError(param, f"{param}={value!r} is unknown. Known are {', '.join(allowed)}.")
    return value


def _groups(texts: Sequence[str]) -> tuple[str, ...]:
    names = [name for text in texts for name in text.split(",") if name]
    return tuple(dict.fromkeys(_choice("group", name, GROUPS) for name in names))


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


def _range(given: dict[str, str], zone: ZoneInfo, now: datetime) -> tuple[datetime, datetime]:
    latest = _slot_end(now)
    until = _moment("to", given["to"], zone) if "to" in given else latest
    if "last" in given:
        if "from" in given or "to" in given:
            raise BadQueryError("last", "'last' stands alone: remove 'from' and 'to'.")
        since = _since_last(given["last"], zone, now)
    elif "from" in given:
        since = _moment("from", given["from"], zone)
    else:
        raise BadQueryError("from", "'from' is missing: 'to' alone is no range.")
    if since >= until:
        raise BadQueryError("from", "'from' must be before 'to', and not in the future.")
    if until - since > LONGEST:
        param = "last" if "last" in given else "from"
        raise BadQueryError(param, "The range is longer than 5 years. Choose a shorter one.")
    since, until = slot_of(since), min(_slot_end(until), latest)
    if since >= until:
        raise BadQueryError("from", "'from' lies in the future.")
    return since, until


def _since_last(text: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The start of the last hours, or of the last days and weeks with today as the last day."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", text)
    if match is None:
        raise BadQueryError("last", f"last={text!r}: expected a length such as 12h, 30d or 8w.")
    number = int(match[1])
    if match[2] == "h":
        return now - timedelta(hours=number)
    days = number * (7 if match[2] == "w" else 1)
    return day_start(now.astimezone(zone).date() - timedelta(days=days - 1), zone)


def _moment(param: str, text: str, zone: ZoneInfo) -> datetime:
    # A plus sign that is not escaped in an address arrives as a space.
    text = text.replace(" ", "+") if "T" in text else text
    try:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
        return day_start(day + timedelta(days=param == "to"), zone)
    except (ValueError, OverflowError):
        raise BadQueryError(
            param, f"{param}={text!r}: expected a date such as 2026-10-25, or 2026-10-25T14:00."
        ) from None


def _slot_end(moment: datetime) -> datetime:
    """The next whole quarter of an hour; a moment that is one stays."""
    start = slot_of(moment)
    return start if start == moment else start + SLOT
