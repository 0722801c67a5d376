"""Agents' tokens move to logins of their own; those that are out go on, and their agents are given the next one in time."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

BATCH = 1000


def move_tokens(apps, schema_editor):
    client, login = apps.get_model("clients", "Client"), apps.get_model("clients", "AgentLogin")
    now = django.utils.timezone.now()
    joined = client.objects.exclude(token_hash="").values_list("pk", "token_hash")
    rows = (login(client_id=number, token_hash=token, created_at=now, used_at=now) for number, token in joined.iterator())
    login.objects.bulk_create(rows, batch_size=BATCH)


def move_tokens_back(apps, schema_editor):
    client, login = apps.get_model("clients", "Client"), apps.get_model("clients", "AgentLogin")
    for number, token in login.objects.order_by("pk").values_list("client_id", "token_hash").iterator():
        client.objects.filter(pk=number).update(token_hash=token)


class Migration(migrations.Migration):

    dependencies = [
        ('clients', '0004_what_agents_report'),
    ]

    operations = [
        migrations.CreateModel(
            name='AgentLogin',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('token_hash', models.CharField(editable=False, max_length=64, unique=True)),
                ('broker_hash', models.CharField(blank=True, editable=False, max_length=64)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created')),
                ('used_at', models.DateTimeField(blank=True, null=True, verbose_name='used')),
                ('expires_at', models.DateTimeField(blank=True, null=True, verbose_name='expires')),
                ('client', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='logins', to='clients.client', verbose_name='client')),
            ],
            options={
                'verbose_name': "agent's login",
                'verbose_name_plural': "agents' logins",
            },
        ),
        migrations.CreateModel(
            name='PendingCutOff',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('client_number', models.BigIntegerField(unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.RunPython(move_tokens, move_tokens_back),
    ]
