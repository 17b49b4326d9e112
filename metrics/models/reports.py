"""Reports by e-mail: who gets which, and which were sent."""

from django.conf import settings
from django.db import models


class ReportSubscription(models.Model):
    """A usage report for one recipient; it shows what ``user`` may see."""

    class Period(models.TextChoices):
        WEEK = "week", "weekly"
        MONTH = "month", "monthly"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    email = models.EmailField(help_text="Where the report is sent.")
    period = models.CharField(max_length=5, choices=Period.choices, default=Period.WEEK)
    is_active = models.BooleanField(default=True)

    class Meta:
        verbose_name = "report by e-mail"
        verbose_name_plural = "reports by e-mail"
        constraints = [
            models.UniqueConstraint(
                fields=["email", "period", "user"], name="one_report_per_period"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_period_display()} to {self.email}"


class ReportDelivery(models.Model):
    """One report that was sent, or is being sent: at most one per subscription and period."""

    subscription = models.ForeignKey(
        ReportSubscription, on_delete=models.CASCADE, related_name="deliveries"
    )
    period_start = models.DateField()
    sent_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        verbose_name_plural = "report deliveries"
        ordering = ["-period_start"]
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "period_start"], name="one_delivery_per_period"
            )
        ]

    def __str__(self) -> str:
        return f"{self.subscription} {self.period_start}"
