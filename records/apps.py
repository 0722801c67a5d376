"""The room of history and events."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RecordsConfig(AppConfig):
    name = "records"
    verbose_name = _("history")

    def ready(self) -> None:
        from records import announcing, presence  # noqa: F401 -- they connect their receivers
