"""Demand prediction at work: reads request records, asks the pure part, writes predictions."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from inference.conf import InferenceSettings
from inference.controller.observe import Observation
from metrics.arrivals import count_arrivals
from models_registry.fleet import predictions, views
from models_registry.models import Prediction
from models_registry.plan.facts import Rules
from models_registry.plan.history import DAYS, Arrivals, History
from models_registry.plan.plan import Plan
from models_registry.plan.prediction import choose, likely
from models_registry.rules.outcome import Outcome

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
# Read by the minute when the controller starts, so that predictions made before it are judged.
_RECENT: Final = timedelta(hours=1)
# A record is stamped a moment before it can be read.
_SLACK: Final = timedelta(seconds=5)
# Records of earlier days are read one day at a time, so that no tick takes long.
_DAY: Final = timedelta(days=1)


class DemandPrediction:
    """Predicts the demand for versions; ``to_preload`` names any only with the setting "act"."""

    def __init__(
        self,
        settings: InferenceSettings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._now = now
        self._acts = settings.demand_prediction == "act"
        self._grace_seconds = settings.queue_timeout_seconds + settings.request_timeout_seconds
        self._due_at = clock()
        self._history = History()
        self._read_from: datetime | None = None
        self._read_until: datetime | None = None
        self._probabilities: dict[str, float] = {}
        self._known_open: list[Prediction] | None = None

    def to_preload(self) -> dict[str, float]:
        """Versions to preload now, with the seconds since the prediction; empty in shadow."""
        if not self._acts:
            return {}
        now = self._now()
        return {row.version.key: (now - row.made_at).total_seconds() for row in self._pending(now)}

    def update(self, observation: Observation, decided: Plan, rules: Rules) -> None:
        """Record unpredicted starts; once a minute judge old predictions and make new ones."""
        if self._settings.demand_prediction == "off":
            return
        now = self._now()
        # Starts that requests wait for, of versions that were neither wanted nor there.
        known = {replica.version for replica in observation.replicas if replica.wanted}
        for start in decided.starts:
            if start.version in known or not observation.versions[start.version].queued:
                continue
            known.add(start.version)
            if not any(
                row.version.key == start.version and row.made_at <= now < row.until
                for row in self._open
            ):
                probability = self._probabilities.get(start.version, 0.0)
                predictions.note_missed(start.version, now, probability, sum(start.needs.values()))
        if self._clock() < self._due_at:
            return
        self._due_at = self._clock() + EVERY_SECONDS
        if self._read_from is None:
            predictions.drop_unwatched(now - _RECENT)
        arrivals = self._read(now)
        self._history.add(arrivals)
        self._history.forget(now.timestamp())
        self._known_open = predictions.open_predictions(now)
        predictions.settle(self._open, arrivals, now, self._grace_seconds)
        self._probabilities = self._history.probabilities(now.timestamp())
        # While a replica comes, goes or waits for room, the free memory is spoken for.
        if not (decided.starts or decided.retirements or decided.reasons):
            self._predict(observation, rules, now)

    @property
    def _open(self) -> list[Prediction]:
        """Predictions whose time is not over or that are not judged, as of the last evaluation."""
        if self._known_open is None:
            self._known_open = predictions.open_predictions(self._now())
        return self._known_open

    def _pending(self, now: datetime) -> list[Prediction]:
        return [row for row in self._open if row.outcome == Outcome.PENDING and now < row.until]

    def _read(self, now: datetime) -> list[Arrivals]:
        """Requests that were not read before: those since the last time, and an earlier day."""
        until = now - _SLACK
        after = self._read_until or now - _RECENT
        earliest = self._read_from or after
        longest = timedelta(seconds=self._grace_seconds)
        counts = count_arrivals(after, until, "minute", longest)
        if earliest > now - timedelta(days=DAYS):
            counts += count_arrivals(earliest - _DAY, earliest, "hour", longest)
            earliest -= _DAY
        self._read_from, self._read_until = earliest, until
        return [Arrivals(*count) for count in counts]

    def _predict(self, observation: Observation, rules: Rules, now: datetime) -> None:
        found = likely(
            self._probabilities, {row.version.key for row in self._open if row.until > now}
        )
        if not found:
            return
        promised = [row.version.key for row in self._pending(now)]
        # The snapshot's views may lack these versions, because they were not wanted.
        wishes = views.Wishes(foreseen=dict.fromkeys([*promised, *found], 0.0))
        alive = {node.name for node in observation.nodes if node.is_alive}
        versions = views.version_views(
            views.wanted_versions(observation.snapshot, wishes),
            wishes,
            [node for node in observation.snapshot.nodes if node.name in alive],
            self._settings.keep_alive_seconds,
        )
        preloads = choose(
            found,
            promised,
            observation.nodes,
            versions | observation.versions,
            observation.replicas,
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
