"""Django's registration of the app."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """The app ``metrics``."""

    name = "metrics"
    default_auto_field = "django.db.models.BigAutoField"
