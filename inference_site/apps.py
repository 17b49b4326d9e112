from django.apps import AppConfig


class InferenceSiteConfig(AppConfig):
    name = "inference_site"

    def ready(self) -> None:
        from inference_site import checks  # noqa: F401
