"""The room of history and events."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RecordsConfig(AppConfig):
    name = "records"
    verbose_name = _("history")

    def ready(self) -> None:
        # They connect their receivers, do the drills, and register a page.
        from records import announcing, counting, drill_admin, presence  # noqa: F401
        from records.drills import drilling  # noqa: F401
        from records.notifying import admin  # noqa: F401
