"""Django's registration of the app."""

from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    """What exists, and what is in memory where."""

    name = "models_registry"
    verbose_name = "Models"
    default_auto_field = "django.db.models.BigAutoField"
