"""Django's registration of the site, for its commands and checks."""

from django.apps import AppConfig


class InferenceSiteConfig(AppConfig):
    """Wires the apps together."""

    name = "inference_site"

    def ready(self) -> None:
        """Register the system checks."""
        from inference_site import checks  # noqa: F401
