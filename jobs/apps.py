from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = _("backups")

    def ready(self) -> None:
        # It connects its receiver.
        from jobs import pinging  # noqa: F401
