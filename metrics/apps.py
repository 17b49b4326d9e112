from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MetricsConfig(AppConfig):
    name = "metrics"
    verbose_name = "Usage"

    def ready(self) -> None:
        from metrics.reports.email import schedule_reports

        post_migrate.connect(schedule_reports, sender=self)
