"""Roles and routes, presets, rollout and prices of versions, and what was seeded."""

import django.core.validators
import django.db.models.deletion
import models_registry.models.routing
import models_registry.rules.names
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('models_registry', '0002_runtime_options'),
    ]

    operations = [
        migrations.CreateModel(
            name='Preset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='What requests send as preset.', max_length=50, unique=True, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9][A-Za-z0-9._-]*\\Z', "Use letters, digits, '.', '_' and '-'.")])),
                ('title', models.CharField(blank=True, max_length=200)),
                ('orchestration_mode', models.CharField(choices=[('single', 'Single'), ('critique', 'Critique'), ('debate', 'Debate'), ('ensemble', 'Ensemble'), ('pipeline', 'Pipeline')], default='single', max_length=10)),
                ('description', models.TextField(blank=True)),
                ('hardware', models.CharField(blank=True, choices=[('laptop', '16 GB laptop'), ('laptop_alone', '16 GB laptop that does nothing else'), ('server', 'server with a GPU of 24 GB or more')], max_length=20)),
                ('settings', models.JSONField(blank=True, default=dict, help_text='Of the mode, such as {"max_rounds": 2}; what is missing has its usual value.')),
                ('default_sampling', models.JSONField(blank=True, default=dict, help_text='Goes before the sampling values of its versions.')),
                ('documented_memory_bytes', models.BigIntegerField(blank=True, help_text='What its publisher says all of its models take.', null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='SeededRow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(help_text='Table and name in the seed.', max_length=700, unique=True)),
                ('object_id', models.BigIntegerField()),
                ('values', models.JSONField(default=dict)),
                ('seeded_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'ordering': ['key'],
            },
        ),
        migrations.CreateModel(
            name='TaskRoute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('task_type', models.SlugField(unique=True)),
                ('role', models.CharField(choices=[('primary', 'Primary'), ('fast', 'Fast'), ('coder', 'Coder'), ('thinker', 'Thinker'), ('longctx', 'Longctx')], max_length=10)),
                ('fallback_role', models.CharField(blank=True, choices=[('primary', 'Primary'), ('fast', 'Fast'), ('coder', 'Coder'), ('thinker', 'Thinker'), ('longctx', 'Longctx')], help_text='Used where no model has the role; empty for any model.', max_length=10)),
            ],
            options={
                'ordering': ['task_type'],
            },
        ),
        migrations.AddField(
            model_name='modelversion',
            name='canary_percent',
            field=models.PositiveSmallIntegerField(default=0, help_text='Share of the requests that name only the model which this version gets.', validators=[django.core.validators.MaxValueValidator(100)], verbose_name='canary share in percent'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='completion_usd_per_million_tokens',
            field=models.DecimalField(decimal_places=6, default=0, help_text='US dollars for a million completion tokens.', max_digits=12, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='default_until',
            field=models.DateTimeField(editable=False, help_text='When another version took its place as default; a rollback goes to the latest.', null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='deprecation_note',
            field=models.CharField(blank=True, help_text='Why, and what to use instead.', max_length=200),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='documented_memory_bytes',
            field=models.BigIntegerField(blank=True, help_text='What its publisher says it takes.', null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='hardware',
            field=models.CharField(blank=True, choices=[('laptop', '16 GB laptop'), ('laptop_alone', '16 GB laptop that does nothing else'), ('server', 'server with a GPU of 24 GB or more')], max_length=20),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='is_deprecated',
            field=models.BooleanField(default=False, help_text='It still answers; its answers carry a warning.'),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='prompt_usd_per_million_tokens',
            field=models.DecimalField(decimal_places=6, default=0, help_text='US dollars for a million prompt tokens.', max_digits=12, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='usd_per_device_hour',
            field=models.DecimalField(decimal_places=6, default=0, help_text='US dollars for an hour of computing on one device.', max_digits=12, validators=[django.core.validators.MinValueValidator(0)]),
        ),
        migrations.AlterField(
            model_name='model',
            name='roles',
            field=models.JSONField(blank=True, default=list, help_text='What it is good for, best first, such as ["coder", "primary"].', validators=[models_registry.models.routing.validate_roles]),
        ),
        migrations.AlterField(
            model_name='model',
            name='slug',
            field=models.CharField(help_text='What requests send as model.', max_length=100, unique=True, validators=[django.core.validators.RegexValidator('^[a-z0-9][a-z0-9._-]*\\Z', "Use lower-case letters, digits, '.', '_' and '-'.")], verbose_name='id'),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='file_name',
            field=models.CharField(help_text='Below the models directory.', max_length=255, validators=[models_registry.rules.names.validate_file_name]),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='label',
            field=models.CharField(max_length=50, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9][A-Za-z0-9._-]{0,49}\\Z', "Use up to 50 letters, digits, '.', '_' and '-'.")]),
        ),
        migrations.AlterField(
            model_name='model',
            name='type',
            field=models.CharField(choices=[('text_generation', 'Text Generation'), ('embedding', 'Embedding'), ('text2text', 'Text2Text'), ('classification', 'Classification'), ('vision', 'Vision')], default='text_generation', max_length=32),
        ),
        migrations.CreateModel(
            name='ContextBudget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('system_tokens', models.PositiveIntegerField(help_text='The system message.')),
                ('trajectory_tokens', models.PositiveIntegerField(help_text='Where in the run the model is.')),
                ('handoff_tokens', models.PositiveIntegerField(help_text='What earlier models hand on.')),
                ('user_query_tokens', models.PositiveIntegerField(help_text='What the user asked.')),
                ('generation_tokens', models.PositiveIntegerField(help_text='The answer.')),
                ('version', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='context_budget', to='models_registry.modelversion')),
            ],
            options={
                'ordering': ['version'],
            },
        ),
        migrations.CreateModel(
            name='PresetMember',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=0)),
                ('role', models.CharField(choices=[('generator', 'Generator'), ('critic', 'Critic'), ('reviser', 'Reviser'), ('debater', 'Debater'), ('reconciler', 'Reconciler'), ('synthesiser', 'Synthesiser'), ('drafter', 'Drafter'), ('refiner', 'Refiner'), ('validator', 'Validator')], default='generator', max_length=12)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='preset_members', to='models_registry.model')),
                ('preset', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='members', to='models_registry.preset')),
                ('version', models.ForeignKey(blank=True, help_text="Empty for the model's default version.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='preset_members', to='models_registry.modelversion')),
            ],
            options={
                'ordering': ['preset', 'position', 'id'],
            },
        ),
        migrations.CreateModel(
            name='RoleAssignment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('mode', models.CharField(choices=[('single', 'Single'), ('critique', 'Critique'), ('debate', 'Debate'), ('ensemble', 'Ensemble'), ('pipeline', 'Pipeline')], max_length=10)),
                ('role', models.CharField(choices=[('primary', 'Primary'), ('fast', 'Fast'), ('coder', 'Coder'), ('thinker', 'Thinker'), ('longctx', 'Longctx')], max_length=10)),
                ('participant', models.CharField(choices=[('generator', 'Generator'), ('critic', 'Critic'), ('reviser', 'Reviser'), ('debater', 'Debater'), ('reconciler', 'Reconciler'), ('synthesiser', 'Synthesiser'), ('drafter', 'Drafter'), ('refiner', 'Refiner'), ('validator', 'Validator')], max_length=12)),
                ('own_tasks_only', models.BooleanField(default=False, help_text='Only for types of task that are routed to this role.')),
            ],
            options={
                'ordering': ['mode', 'role', 'participant'],
                'constraints': [models.UniqueConstraint(fields=('mode', 'role', 'participant'), name='one_assignment_per_participant')],
            },
        ),
        migrations.CreateModel(
            name='Fallback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=0)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='fallbacks', to='models_registry.model')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='fallback_for', to='models_registry.model')),
            ],
            options={
                'ordering': ['model', 'position', 'id'],
                'constraints': [models.UniqueConstraint(fields=('model', 'target'), name='one_fallback_per_target')],
            },
        ),
    ]
