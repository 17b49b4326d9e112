from django.apps import AppConfig


class CachingConfig(AppConfig):
    """Caches of answers and embeddings."""

    name = "caching"
