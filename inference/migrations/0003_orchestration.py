"""Runs of several models, and their calls."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("inference", "0002_teams"),
    ]

    operations = [
        migrations.CreateModel(
            name="OrchestrationRun",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("user_id", models.BigIntegerField()),
                ("end_user", models.CharField(blank=True, max_length=200)),
                ("mode", models.CharField(max_length=10)),
                ("preset", models.CharField(blank=True, max_length=100)),
                ("model", models.CharField(max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("finished", "Finished"),
                            ("partial", "Partial"),
                            ("cancelled", "Cancelled"),
                            ("failed", "Failed"),
                        ],
                        default="running",
                        max_length=9,
                    ),
                ),
                ("frozen", models.BinaryField(default=b"")),
                ("summary", models.JSONField(default=dict)),
                ("error_code", models.CharField(blank=True, max_length=60)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "run of several models",
                "verbose_name_plural": "runs of several models",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["-started_at"], name="orchestration_run_started"),
                    models.Index(
                        condition=models.Q(("state", "running")),
                        fields=["id"],
                        name="orchestration_run_open",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RunStep",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=20)),
                ("attempt", models.PositiveSmallIntegerField(default=0)),
                ("phase", models.CharField(max_length=100)),
                ("round", models.PositiveSmallIntegerField()),
                ("member", models.PositiveSmallIntegerField()),
                ("participant", models.CharField(max_length=12)),
                ("version_key", models.CharField(max_length=160, verbose_name="version")),
                ("generation_id", models.CharField(max_length=64)),
                ("said", models.BinaryField(default=b"")),
                ("text", models.TextField(blank=True)),
                ("finish", models.CharField(blank=True, max_length=10)),
                ("error_code", models.CharField(blank=True, max_length=60)),
                ("prompt_tokens", models.IntegerField(default=0)),
                ("cached_tokens", models.IntegerField(default=0)),
                ("completion_tokens", models.IntegerField(default=0)),
                ("context_tokens", models.IntegerField(default=0)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="steps",
                        to="inference.orchestrationrun",
                    ),
                ),
            ],
            options={
                "ordering": ["started_at", "id"],
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("run", "key", "attempt"), name="one_step_per_key_and_attempt"
                    )
                ],
            },
        ),
    ]
