from django.apps import AppConfig


class CachingConfig(AppConfig):
    """Caches of answers and embeddings; nothing is cached yet."""

    name = "caching"
