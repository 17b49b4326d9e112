"""Prices get rows with dates; the prices of a version are in force since it was added."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models
from django.utils import timezone

FIELDS = (
    "prompt_usd_per_million_tokens",
    "completion_usd_per_million_tokens",
    "usd_per_device_hour",
)


def move(apps, schema_editor):
    price = apps.get_model("models_registry", "Price")
    for version in apps.get_model("models_registry", "ModelVersion").objects.all():
        values = {name: getattr(version, name) for name in FIELDS}
        if any(values.values()):
            since = version.created_at.replace(microsecond=0)
            price.objects.create(version=version, valid_from=since, **values)


def move_back(apps, schema_editor):
    for version in apps.get_model("models_registry", "ModelVersion").objects.all():
        price = version.prices.filter(valid_from__lte=timezone.now()).last()
        if price is not None:
            for name in FIELDS:
                setattr(version, name, getattr(price, name))
            version.save(update_fields=FIELDS)


class Migration(migrations.Migration):

    dependencies = [
        ('models_registry', '0008_plainer_labels_and_help_texts'),
    ]

    operations = [
        migrations.CreateModel(
            name='Price',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_from', models.DateTimeField(blank=True, help_text='Empty: from now on.', verbose_name='valid from (UTC)')),
                ('prompt_usd_per_million_tokens', models.DecimalField(decimal_places=6, default=0, max_digits=12, validators=[django.core.validators.MinValueValidator(0)], verbose_name='Prompt, $/million')),
                ('cached_usd_per_million_tokens', models.DecimalField(blank=True, decimal_places=6, default=None, max_digits=12, null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='Cached, $/million')),
                ('completion_usd_per_million_tokens', models.DecimalField(decimal_places=6, default=0, max_digits=12, validators=[django.core.validators.MinValueValidator(0)], verbose_name='Completion, $/million')),
                ('usd_per_device_hour', models.DecimalField(decimal_places=6, default=0, max_digits=12, validators=[django.core.validators.MinValueValidator(0)], verbose_name='Device, $/hour')),
                ('added_by', models.CharField(blank=True, editable=False, max_length=150)),
                ('late_at', models.DateTimeField(editable=False, null=True)),
                ('corrected_at', models.DateTimeField(editable=False, null=True)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='prices', to='models_registry.modelversion')),
            ],
            options={
                'ordering': ['valid_from', 'id'],
            },
        ),
        migrations.RunPython(move, move_back),
        migrations.RemoveField(
            model_name='modelversion',
            name='completion_usd_per_million_tokens',
        ),
        migrations.RemoveField(
            model_name='modelversion',
            name='prompt_usd_per_million_tokens',
        ),
        migrations.RemoveField(
            model_name='modelversion',
            name='usd_per_device_hour',
        ),
    ]
