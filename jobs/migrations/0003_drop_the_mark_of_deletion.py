from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("jobs", "0002_delete_hidden_plans")]

    operations = [
        migrations.RemoveIndex(model_name="backupplan", name="plan_due"),
        migrations.RemoveField(model_name="backupplan", name="deleted_at"),
        migrations.AddIndex(
            model_name="backupplan",
            index=models.Index(
                condition=models.Q(("next_fire_at__isnull", False), ("paused", False)), fields=["next_fire_at"], name="plan_due"
            ),
        ),
    ]
