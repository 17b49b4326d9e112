"""The usage that a user may see."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from inference.models import Membership, Team
from metrics.visibility import Visibility, visible_to
from models_registry.access import VIEWERS

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> Any:
    return get_user_model().objects.create_user("ann")


def test_visibility_is_a_users_own_and_the_teams_that_they_own(ann: Any) -> None:
    owned, joined = Team.objects.create(slug="a"), Team.objects.create(slug="b")
    Membership.objects.create(team=owned, user=ann, role=Membership.Role.OWNER)
    Membership.objects.create(team=joined, user=ann)
    seen = visible_to(ann)
    assert seen == Visibility(users=frozenset({ann.pk}), teams=frozenset({owned.pk}))


def test_visibility_is_everything_for_viewers_and_superusers(ann: Any) -> None:
    ann.groups.add(Group.objects.get(name=VIEWERS))
    root = get_user_model().objects.create_superuser("root")
    assert visible_to(ann) == visible_to(root) == Visibility(everything=True)
