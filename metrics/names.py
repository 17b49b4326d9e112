"""Names of users, keys and teams as they were when a request came."""

from collections import defaultdict
from datetime import datetime

from django.db.models import Q

from metrics.models import DimensionName


class Names:
    """The names that some ids have had."""

    def __init__(self, wanted: dict[str, set[int]]) -> None:
        """Read the names of ids by kind."""
        condition = Q(pk__in=())
        for kind, ids in wanted.items():
            condition |= Q(kind=kind, dimension_id__in=ids)
        self._found: defaultdict[tuple[str, int], list[DimensionName]] = defaultdict(list)
        for name in DimensionName.objects.filter(condition).order_by("valid_from"):
            self._found[name.kind, name.dimension_id].append(name)

    def at(self, kind: str, number: int | None, moment: datetime | None = None) -> str:
        """The name at a moment, or the latest; ``#7`` where none is known, "" without an id."""
        if number is None:
            return ""
        names = self._found[kind, number]
        valid = [name for name in names if moment is None or name.valid_from <= moment]
        # A name is noted with the first request, which may be written after a later one.
        known = valid or names[:1]
        return known[-1].name if known else f"#{number}"
