"""Django's registration of the app."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """Serving: from a request to tokens and back."""

    name = "inference"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"
