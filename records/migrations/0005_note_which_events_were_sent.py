from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("records", "0004_find_what_is_held")]

    operations = [
        # What there is has been sent.
        migrations.AddField(model_name="event", name="is_sent", field=models.BooleanField(default=True, editable=False)),
        migrations.AlterField(model_name="event", name="is_sent", field=models.BooleanField(default=False, editable=False)),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(condition=models.Q(("is_sent", False)), fields=["time"], name="event_unsent"),
        ),
    ]
