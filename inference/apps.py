"""Django's registration of the app."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from inference.fleet_figures import fleet_figures
        from models_registry.fleet.live_figures import register_figures

        register_figures(fleet_figures)
