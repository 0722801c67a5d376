from django.db import migrations, models

import jobs.models


class Migration(migrations.Migration):
    """New plans count in the server's time zone; the database itself is not touched."""

    dependencies = [("jobs", "0004_note_the_last_fire")]

    operations = [
        migrations.AlterField(
            model_name="backupplan",
            name="timezone",
            field=models.CharField(default=jobs.models.server_timezone, max_length=64, verbose_name="time zone"),
        ),
    ]
