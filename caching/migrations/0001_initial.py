"""Entries of the semantic cache, their vectors, and comparisons of answers."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

# The database keeps the tables together, so that many entries are deleted by one statement. Vectors
# are never compressed or stored apart, since each search reads many.
REFERENCES = """
    ALTER TABLE caching_semanticvector
        ADD CONSTRAINT semantic_vector_entry FOREIGN KEY (entry_id)
            REFERENCES caching_semanticentry ON DELETE CASCADE,
        ALTER COLUMN v SET STORAGE PLAIN;
    ALTER TABLE caching_cacheverdict
        ADD CONSTRAINT verdict_entry FOREIGN KEY (entry_id)
            REFERENCES caching_semanticentry ON DELETE SET NULL;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="CacheVerdict",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("version_key", models.CharField(max_length=160, verbose_name="version")),
                ("preset", models.CharField(blank=True, max_length=100)),
                ("user_id", models.BigIntegerField()),
                ("end_user", models.CharField(blank=True, max_length=200)),
                ("prompt", models.TextField(blank=True, verbose_name="asked")),
                ("answer_text", models.TextField(blank=True, verbose_name="own answer")),
                ("similarity", models.FloatField(verbose_name="cosine")),
                ("agrees", models.BooleanField(null=True)),
                (
                    "source",
                    models.CharField(
                        choices=[("shadow", "Shadow"), ("person", "Person")],
                        default="shadow",
                        max_length=8,
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "verbose_name": "comparison of answers",
                "verbose_name_plural": "comparisons of answers",
                "default_permissions": ("view", "change", "delete"),
            },
        ),
        migrations.CreateModel(
            name="SemanticEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=64, unique=True)),
                ("partition", models.BinaryField()),
                ("facts_digest", models.BinaryField()),
                ("user_id", models.BigIntegerField()),
                ("end_user", models.CharField(blank=True, max_length=200)),
                (
                    "version_key",
                    models.CharField(db_index=True, max_length=160, verbose_name="version"),
                ),
                ("preset", models.CharField(blank=True, max_length=100)),
                ("prompt", models.TextField()),
                ("answer", models.BinaryField()),
                ("answer_text", models.TextField(blank=True, verbose_name="answer")),
                ("completion_tokens", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField(db_index=True)),
                ("last_hit_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("hits", models.IntegerField(default=0)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("live", "Live"),
                            ("suspect", "suspect: a comparison waits for a decision"),
                            ("refused", "refused: a person found a wrong hit"),
                        ],
                        default="live",
                        max_length=8,
                    ),
                ),
            ],
            options={
                "verbose_name": "answer of the semantic cache",
                "verbose_name_plural": "answers of the semantic cache",
                "default_permissions": ("view", "delete"),
            },
        ),
        migrations.CreateModel(
            name="SemanticVector",
            fields=[
                (
                    "entry",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="caching.semanticentry",
                    ),
                ),
                ("partition", models.BinaryField()),
                ("facts_digest", models.BinaryField()),
                ("live_until", models.DateTimeField(null=True)),
                ("v", models.BinaryField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AddIndex(
            model_name="semanticentry",
            index=models.Index(fields=["user_id", "end_user"], name="semantic_entry_user"),
        ),
        migrations.AddField(
            model_name="cacheverdict",
            name="entry",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="verdicts",
                to="caching.semanticentry",
                verbose_name="cached prompt",
            ),
        ),
        migrations.AddIndex(
            model_name="semanticvector",
            index=models.Index(fields=["partition", "facts_digest"], name="semantic_vector_group"),
        ),
        migrations.AddIndex(
            model_name="cacheverdict",
            index=models.Index(
                fields=["version_key", "preset", "at"], name="verdict_version_preset"
            ),
        ),
        migrations.AddIndex(
            model_name="cacheverdict",
            index=models.Index(fields=["user_id", "end_user"], name="verdict_user"),
        ),
        migrations.RunSQL(REFERENCES, migrations.RunSQL.noop),
    ]
