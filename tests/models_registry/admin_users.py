"""People of each group, logged in to the admin."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client


def client_of(group: str) -> Client:
    """A member of staff in a group, whose name is that of the group; "" for none."""
    user = get_user_model().objects.create_user(
        group or "nobody", password="long enough", is_staff=True
    )
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client
