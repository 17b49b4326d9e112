"""Residency: budgets of devices, how long versions stay in memory, what they were measured to take."""

import django.core.validators
import django.db.models.deletion
import models_registry.models.fleet
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_registry', '0003_roles_presets_rollout_and_prices'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='header',
            field=models.JSONField(editable=False, help_text='What its memory is foreseen from.', null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='keep_alive_seconds',
            field=models.IntegerField(blank=True, help_text='Seconds without requests after which it leaves memory; -1 for never, empty for INFERENCE_KEEP_ALIVE_SECONDS.', null=True, validators=[django.core.validators.MinValueValidator(-1)]),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='pinned',
            field=models.BooleanField(default=False, help_text='Always in memory: never put out for others.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='preload_workers',
            field=models.PositiveSmallIntegerField(default=0, help_text='Replicas that are in memory before anybody asks, where there is room; with 0 the first request brings it.', validators=[django.core.validators.MaxValueValidator(64)]),
        ),
        migrations.AddField(
            model_name='node',
            name='cpu_features',
            field=models.JSONField(default=list, editable=False, help_text='What llama.cpp was built for and found.'),
        ),
        migrations.AddField(
            model_name='node',
            name='device_budgets',
            field=models.JSONField(blank=True, default=dict, help_text='Bytes that models may take, such as {"cpu": 8000000000, "cuda:0": 16000000000}. What is not named goes by INFERENCE_MEMORY_BUDGET_BYTES and the device\'s size.', validators=[models_registry.models.fleet.validate_budgets]),
        ),
        migrations.AddField(
            model_name='node',
            name='devices',
            field=models.JSONField(default=list, editable=False, help_text='What it can compute on, with its memory in bytes.'),
        ),
        migrations.AddField(
            model_name='replica',
            name='load_failed',
            field=models.BooleanField(default=False, editable=False, help_text='It could not be loaded, rather than died.'),
        ),
        migrations.AddField(
            model_name='replica',
            name='loaded_options',
            field=models.CharField(blank=True, editable=False, help_text='The options it was loaded with, as a footprint names them.', max_length=300),
        ),
        migrations.AddField(
            model_name='replica',
            name='needed_bytes',
            field=models.JSONField(default=dict, editable=False, help_text='Bytes by device that were set aside for it.'),
        ),
        migrations.AddField(
            model_name='replica',
            name='on_demand',
            field=models.BooleanField(default=False, editable=False, help_text='Only requests asked for it, no person.'),
        ),
        migrations.AddField(
            model_name='replica',
            name='placed_on',
            field=models.CharField(default='auto', editable=False, help_text='The device it was told to use.', max_length=20),
        ),
        migrations.AlterField(
            model_name='replica',
            name='crashes',
            field=models.PositiveSmallIntegerField(default=0, editable=False, help_text='Launches in a row that ended badly.'),
        ),
        migrations.CreateModel(
            name='Footprint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('options', models.CharField(help_text='Device, sizes and types of the KV cache, draft model, what the CPU can do.', max_length=300)),
                ('private_bytes', models.BigIntegerField()),
                ('measured_at', models.DateTimeField(auto_now=True)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='footprints', to='models_registry.modelversion')),
            ],
            options={
                'ordering': ['version', 'options'],
                'constraints': [models.UniqueConstraint(fields=('version', 'options'), name='one_footprint_per_options')],
            },
        ),
    ]
