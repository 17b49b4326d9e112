"""Django's registration of the app."""

from django.apps import AppConfig


class CachingConfig(AppConfig):
    """Caches of model answers and embeddings; nothing is cached yet."""

    name = "caching"
    default_auto_field = "django.db.models.BigAutoField"
