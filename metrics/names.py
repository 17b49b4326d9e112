"""Names of users, keys and teams as they were when a request came."""

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
        self._found: dict[tuple[str, int], list[DimensionName]] = {}
        for name in DimensionName.objects.filter(condition).order_by("valid_from"):
            self._found.setdefault((name.kind, name.dimension_id), []).append(name)

    def at(self, kind: str, number: int | None, moment: datetime | None = None) -> str:
        """The name at a moment, or the latest; ``#7`` where none is known, "" without an id."""
        if number is None:
            return ""
        names = self._found.get((kind, number))
        if not names:
            return f"#{number}"
        valid = [name for name in names if moment is None or name.valid_from <= moment]
        return (valid or names[:1])[-1].name
