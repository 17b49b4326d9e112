"""Histograms by hour, with those of the slots that are there."""

import django.contrib.postgres.fields
from django.db import migrations, models

FILL = """
    INSERT INTO metrics_shapehour (hour, version_key, measure, buckets, counts)
    SELECT hour, version_key, measure, array_agg(bucket ORDER BY bucket),
        array_agg(requests ORDER BY bucket)
    FROM (
        SELECT date_trunc('hour', slot, 'UTC') AS hour, version_key, measure, bucket,
            sum(requests)::integer AS requests
        FROM metrics_shapeslot, unnest(buckets, counts) AS entry (bucket, requests)
        GROUP BY 1, 2, 3, 4
    ) AS entries GROUP BY hour, version_key, measure
"""


class Migration(migrations.Migration):
    dependencies = [
        ("metrics", "0003_ledger"),
    ]

    operations = [
        migrations.CreateModel(
            name="ShapeHour",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version_key", models.CharField(max_length=160)),
                (
                    "measure",
                    models.CharField(
                        choices=[
                            ("ttft", "Ttft"),
                            ("itl", "Inter Token"),
                            ("queue", "Queue"),
                            ("total", "Total"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "buckets",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.SmallIntegerField(), size=None
                    ),
                ),
                (
                    "counts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), size=None
                    ),
                ),
                ("hour", models.DateTimeField(db_index=True)),
            ],
            options={
                "abstract": False,
                "default_permissions": (),
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
