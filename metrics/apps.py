"""Django's registration of the app."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """What was used, one record per request."""

    name = "metrics"
    verbose_name = "Usage"
    default_auto_field = "django.db.models.BigAutoField"
