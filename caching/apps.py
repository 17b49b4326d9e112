"""Django's registration of the app."""

from django.apps import AppConfig


class CachingConfig(AppConfig):
    """The app ``caching``."""

    name = "caching"
    default_auto_field = "django.db.models.BigAutoField"
