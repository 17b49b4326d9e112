"""Django's registration of the app."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """The app ``inference``."""

    name = "inference"
    default_auto_field = "django.db.models.BigAutoField"
