"""``manage.py seed_registry``: add the models a new installation knows."""

from typing import Any

from django.core.management.base import BaseCommand

from models_registry.seeding import seed_registry


class Command(BaseCommand):
    """May be run again: what is registered stays as it is."""

    help = "Add the default models to the registry; rows that exist are not changed."

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed and say what was added."""
        added = seed_registry()
        self.stdout.write("Added " + ", ".join(added) if added else "Nothing to add.")
