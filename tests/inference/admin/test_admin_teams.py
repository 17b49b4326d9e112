"""Teams in the admin."""

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse

from inference.models import Membership, Team
from models_registry.access import ADMINISTRATORS, OPERATORS
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db


def test_administrator_makes_a_team_with_an_owner() -> None:
    user = get_user_model().objects.create_user("ada")
    form = {"memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "0"}
    member = {"memberships-0-user": user.pk, "memberships-0-role": "owner"}
    answer = client_of(ADMINISTRATORS).post(
        reverse("admin:inference_team_add"), {"slug": "search", "name": "Search"} | form | member
    )
    assert answer.status_code == 302
    assert Membership.objects.get(team__slug="search").role == "owner"


def test_operator_has_no_page_of_teams() -> None:
    Team.objects.create(slug="search", name="Search")
    assert client_of(OPERATORS).get(reverse("admin:inference_team_changelist")).status_code == 403
