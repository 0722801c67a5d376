from django.db import migrations


def delete_hidden_plans(apps, schema_editor):
    apps.get_model("jobs", "BackupPlan").objects.filter(deleted_at__isnull=False).delete()


class Migration(migrations.Migration):
    """Plans that were deleted were only hidden, and kept their clients, tenants and repositories from being deleted."""

    dependencies = [("jobs", "0001_initial")]

    operations = [migrations.RunPython(delete_hidden_plans, migrations.RunPython.noop)]
