"""Hits of the semantic cache are rows, also where the answers were not compared."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("caching", "0002_pgvector"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="cacheverdict",
            options={
                "default_permissions": ("view", "change", "delete"),
                "verbose_name": "hit of the semantic cache",
                "verbose_name_plural": "hits and comparisons of answers",
            },
        ),
        migrations.AlterField(
            model_name="cacheverdict",
            name="source",
            field=models.CharField(
                choices=[("hit", "hit: not compared"), ("shadow", "Shadow"), ("person", "Person")],
                default="shadow",
                max_length=8,
            ),
        ),
    ]
