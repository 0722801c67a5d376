from django.db import migrations, models
from django.db.models import Exists, F, OuterRef


def note_what_has_run(apps, schema_editor):
    records = apps.get_model("records", "BackupRecord").objects
    has_run = records.filter(plan_uuid=OuterRef("uuid"), scheduled_at=OuterRef("start_time"))
    plans = apps.get_model("jobs", "BackupPlan").objects.filter(Exists(has_run), cron_expression=None)
    plans.update(fired_at=F("start_time"))


class Migration(migrations.Migration):
    """Whether a plan without an expression has run no longer depends on a record that may be deleted."""

    dependencies = [("jobs", "0003_drop_the_mark_of_deletion"), ("records", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="backupplan",
            name="fired_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="last fire"),
        ),
        migrations.RunPython(note_what_has_run, migrations.RunPython.noop),
    ]
