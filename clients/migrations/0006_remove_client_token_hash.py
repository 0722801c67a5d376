from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('clients', '0005_logins_of_agents'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='client',
            name='token_hash',
        ),
    ]
