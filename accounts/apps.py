from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from backupcenter.logs import tidy_access_logs


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("accounts")

    def ready(self) -> None:
        from accounts import sessions
        from accounts.audit import acts

        tidy_access_logs()
        sessions.watch()
        acts.watch()
