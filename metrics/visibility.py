"""The part of all usage that a user may see."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Q

SEE_EVERYTHING: Final = "metrics.view"
# Find the ids of the teams that a user owns; another app knows them.
_sources: Final[list[Callable[[int], Iterable[int]]]] = []
register_teams = _sources.append


@dataclass(frozen=True)
class Visibility:
    """Everything, or the requests of some users together with those of some teams."""

    everything: bool = False
    users: frozenset[int] = frozenset()
    teams: frozenset[int] = frozenset()

    def condition(self) -> Q:
        """The filter of rows that have a ``user_id`` and a ``team_id``."""
        if self.everything:
            return Q()
        return Q(user_id__in=self.users) | Q(team_id__in=self.teams)


def visible_to(user: Any) -> Visibility:
    """Everything with the permission, else the user's own and their teams'. Reads the database."""
    if user.has_perm(SEE_EVERYTHING):
        return Visibility(everything=True)
    teams = (team for owned_by in _sources for team in owned_by(user.pk))
    return Visibility(users=frozenset({user.pk}), teams=frozenset(teams))
