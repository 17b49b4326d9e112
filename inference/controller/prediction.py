"""Demand prediction at work: reads the records, asks the pure part, writes predictions down."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from inference.conf import InferenceSettings
from inference.controller.outlook import Outlook
from metrics.arrivals import count_arrivals
from models_registry.fleet import predictions
from models_registry.fleet import views as fleet
from models_registry.models import Prediction
from models_registry.plan.facts import Rules, VersionView
from models_registry.plan.history import DAYS, Arrivals, History
from models_registry.plan.plan import Plan, Start
from models_registry.plan.prediction import choose, likely
from models_registry.rules.outcome import Outcome

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
# Read by the minute when the controller starts, so that predictions made before it are judged.
_RECENT: Final = timedelta(hours=1)
# A record is stamped a moment before it can be read.
_SLACK: Final = timedelta(seconds=5)
# Of earlier days one is read at a time, so that no tick waits long for them.
_DAY: Final = timedelta(days=1)


class Foresight:
    """Predictions of the controller that acts: call ``look`` at every tick.

    With ``demand_prediction`` "shadow" it only writes down; with "act" ``wanted`` names what is
    to be preloaded; with "off" it does nothing.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._now = now
        self._is_on = settings.demand_prediction != "off"
        self._acts = settings.demand_prediction == "act"
        self._grace_seconds = settings.queue_timeout_seconds + settings.request_timeout_seconds
        self._due_at = clock()
        self._history = History()
        self._read_from: datetime | None = None
        self._read_until: datetime | None = None
        self._probabilities: dict[str, float] = {}
        self._known_open: list[Prediction] | None = None

    def wanted(self) -> dict[str, float]:
        """Versions to preload now, with the seconds since that was foreseen; empty in shadow."""
        if not self._acts:
            return {}
        now = self._now()
        return {
            row.version.key: (now - row.made_at).total_seconds()
            for row in self._open
            if row.outcome == Outcome.PENDING and now < row.until
        }

    def look(self, outlook: Outlook, drawn: Plan, rules: Rules) -> None:
        """Note what was not foreseen; once a minute judge old predictions and make new ones.

        Args:
            outlook: what the controller saw.
            drawn: what it did about it.
            rules: of the plan.
        """
        if not self._is_on:
            return
        now = self._now()
        for start in _cold_starts(outlook, drawn):
            self._note_cold(start, now)
        if self._clock() >= self._due_at:
            self._due_at = self._clock() + EVERY_SECONDS
            self._evaluate(outlook, drawn, rules, now)

    @property
    def _open(self) -> list[Prediction]:
        """Predictions whose time is not over or that are not judged, as of the last look."""
        if self._known_open is None:
            self._known_open = predictions.open_predictions(self._now())
        return self._known_open

    def _evaluate(self, outlook: Outlook, drawn: Plan, rules: Rules, now: datetime) -> None:
        if self._read_from is None:
            predictions.drop_unwatched(now - _RECENT)
        arrivals = self._read(now)
        self._history.add(arrivals)
        self._history.forget(now.timestamp())
        self._known_open = predictions.open_predictions(now)
        predictions.settle(self._open, arrivals, now, self._grace_seconds)
        self._probabilities = self._history.probabilities(now.timestamp())
        # While something comes, goes or waits for room, what is free is spoken for.
        if not (drawn.starts or drawn.retirements or drawn.reasons):
            self._predict(outlook, rules, now)

    def _read(self, now: datetime) -> list[Arrivals]:
        """Requests that were not read before: those since the last time, and an earlier day."""
        until = now - _SLACK
        after = self._read_until or now - _RECENT
        earliest = self._read_from or after
        counts = count_arrivals(after, until, "minute")
        if earliest > now - timedelta(days=DAYS):
            counts += count_arrivals(earliest - _DAY, earliest, "hour")
            earliest -= _DAY
        self._read_from, self._read_until = earliest, until
        return [
            Arrivals(one.kind, one.version_key, one.first_at.timestamp(), one.requests)
            for one in counts
        ]

    def _predict(self, outlook: Outlook, rules: Rules, now: datetime) -> None:
        found = likely(
            self._probabilities, {row.version.key for row in self._open if row.until > now}
        )
        if not found:
            return
        promised = [
            row.version.key
            for row in self._open
            if row.outcome == Outcome.PENDING and row.until > now
        ]
        preloads = choose(
            found,
            promised,
            outlook.nodes,
            self._with_placements(outlook, [*promised, *found]),
            outlook.replicas,
            rules,
        )
        for one in preloads:
            logger.info(
                "%s is likely to be asked for (%.0f %%)%s",
                one.version,
                100 * one.probability,
                ": it is loaded if there is room" if self._acts else "",
            )
        predictions.note_preloads(preloads, now, acted_on=self._acts)
        self._known_open = predictions.open_predictions(now)

    def _with_placements(self, outlook: Outlook, keys: list[str]) -> dict[str, VersionView]:
        """The versions that the controller saw, and these, which it may have had no reason to."""
        alive = {node.name for node in outlook.nodes if node.is_alive}
        wishes = fleet.Wishes(foreseen=dict.fromkeys(keys, 0.0))
        others = fleet.version_views(
            fleet.wanted_versions(outlook.census, wishes, self._settings.models_dir),
            wishes,
            [node for node in outlook.census.nodes if node.name in alive],
            self._settings.keep_alive_seconds,
        )
        return others | outlook.versions

    def _note_cold(self, start: Start, now: datetime) -> None:
        foreseen = {row.version.key for row in self._open if row.made_at <= now < row.until}
        if start.version not in foreseen:
            probability = self._probabilities.get(start.version, 0.0)
            predictions.note_missed(start.version, now, probability, sum(start.needs.values()))


def _cold_starts(outlook: Outlook, drawn: Plan) -> Iterator[Start]:
    """Loads that requests wait for; not those of what was wanted anyway, or there and died."""
    known = {replica.version for replica in outlook.replicas if replica.wanted}
    for start in drawn.starts:
        if start.version not in known and outlook.versions[start.version].queued:
            known.add(start.version)
            yield start
