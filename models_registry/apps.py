"""Django's registration of the app."""

from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    """The app ``models_registry``."""

    name = "models_registry"
    default_auto_field = "django.db.models.BigAutoField"
