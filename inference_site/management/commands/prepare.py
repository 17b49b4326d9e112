"""``manage.py prepare``: the preparation of ``up``, for processes that are started by hand."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from inference_site.first_run import PREPARE_ERRORS, first_run_path, prepare


class Command(BaseCommand):
    help = "Migrate, seed the registry, fetch the default models, create the first admin and key."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            created = prepare(Console(stderr=True))
        except PREPARE_ERRORS as error:
            raise CommandError(str(error)) from error
        if created is None:
            self.stdout.write("Ready. Credentials were created before.")
            return
        self.stdout.write(f"Admin    {created.admin_user} / {created.admin_password}")
        self.stdout.write(f"API key  {created.api_key}")
        self.stdout.write(f"Both are kept in {first_run_path()}.")
