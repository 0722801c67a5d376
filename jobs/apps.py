from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = _("backups")

    def ready(self) -> None:
        # They connect a receiver, and do the backups of the database and of plans' definitions.
        from jobs import pinging  # noqa: F401
        from jobs.definitions import keeping as _keeping  # noqa: F401
        from jobs.ownbackup import keeping  # noqa: F401
