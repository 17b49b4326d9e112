"""Django's registration of the app."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from inference.models import teams_owned_by
        from inference.redis_figures import redis_figures
        from metrics.visibility import register_teams
        from models_registry.fleet.live_figures import register_figures

        register_figures(redis_figures)
        register_teams(teams_owned_by)
