"""The registry app."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ModelsRegistryConfig(AppConfig):
    name = "models_registry"
    verbose_name = "Models"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from models_registry.access import grant_levels
        from models_registry.audit import start_audit
        from models_registry.tasks import schedule_downloads

        start_audit()
        post_migrate.connect(schedule_downloads, sender=self)
        # After each app, since the permissions of later apps do not exist before.
        post_migrate.connect(grant_levels, dispatch_uid="registry_levels")
