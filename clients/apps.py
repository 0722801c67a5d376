from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClientsConfig(AppConfig):
    name = "clients"
    verbose_name = _("clients")

    def ready(self) -> None:
        from clients import checks, leaving  # noqa: F401 -- they register and connect themselves
