from django.apps import AppConfig


class CachingConfig(AppConfig):
    """Caches of answers."""

    name = "caching"

    def ready(self) -> None:
        from caching import checks  # noqa: F401  (it registers itself)
