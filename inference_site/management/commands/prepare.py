"""``manage.py prepare``: what ``up`` does before it starts processes, for those started by hand."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from inference_site.first_run import first_run_path, prepare
from models_registry.errors import RegistryError
from models_registry.gguf.reader import GGUFError
from models_registry.sources.errors import SourceError


class Command(BaseCommand):
    """May be run again: it does only what is missing."""

    help = "Migrate, seed the registry, fetch the default models, create the first admin and key."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare and show new credentials once."""
        try:
            created = prepare(Console(stderr=True))
        except (SourceError, GGUFError, RegistryError) as error:
            raise CommandError(str(error)) from error
        if created is None:
            self.stdout.write("Ready. Credentials were created before.")
            return
        self.stdout.write(f"Admin    {created.admin_user} / {created.admin_password}")
        self.stdout.write(f"API key  {created.api_key}")
        self.stdout.write(f"Both are kept in {first_run_path()}.")
