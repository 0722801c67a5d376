"""The console's menu: the questions that people come with, in the order in which they come with them."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Item = dict[str, Any]


def _page(name: str, title: str | Promise, icon: str, permission: str = "") -> Item:
    """Return the entry of a model's list, `app_model`, for who may look at it, or has another permission that it takes."""
    app, _dash, model = name.rpartition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{name}_changelist"),
        "permission": _may_look(permission or f"{app}.view_{model}"),
    }


def _administrators(item: Item) -> Item:
    """Return the entry for administrators alone, whatever the page's room lets others see."""
    return {**item, "permission": lambda request: bool(getattr(request.user, "is_administrator", False))}


def _may_look(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: bool(request.user.has_perm(permission))


NAVIGATION: list[dict[str, Any]] = [
    {
        "items": [
            {"title": _("Are we safe?"), "icon": "shield", "link": reverse_lazy("admin:index")},
            _page("jobs_backupplan", _("Backup plans"), "event_repeat"),
            _page("records_backuprecord", _("Backups"), "backup"),
            _page("records_recoveryrecord", _("Restores"), "settings_backup_restore"),
            _page("records_deletedbackup", _("Trash"), "delete"),
            _page("records_drillrecord", _("Restore drills"), "verified"),
            _page("clients_client", _("Clients"), "computer"),
        ],
    },
    {
        "title": _("Stores"),
        "separator": True,
        "collapsible": True,
        "items": [
            _page("storage_repository", _("Repositories"), "inventory_2"),
            _page("records_maintenancerun", _("Checks and upkeep"), "build"),
            _page("storage_usagesample", _("Use by day"), "trending_up"),
            _page("storage_tenant", _("Tenants"), "key"),
            _page("storage_endpoint", _("Endpoints"), "dns"),
        ],
    },
    {
        "title": _("What happened"),
        "separator": True,
        "collapsible": True,
        "items": [
            _page("records_event", _("Events"), "notifications"),
            _administrators(_page("records_delivery", _("Notifications sent"), "outgoing_mail")),
            _page("accounts_auditentry", _("Audit log"), "policy"),
            _page("jobs_auditreport", _("Reports for auditors"), "summarize", permission="accounts.view_auditentry"),
        ],
    },
    {
        "title": _("Settings"),
        "separator": True,
        "collapsible": True,
        "items": [
            _page("jobs_plandrill", _("Drill settings"), "rule_settings"),
            _administrators(_page("jobs_ownbackup", _("Server's own backup"), "shield")),
            _administrators(_page("jobs_planping", _("Dead-man pings"), "monitor_heart")),
            _administrators(_page("records_channel", _("Notification channels"), "campaign")),
            _administrators(_page("records_rule", _("Notification rules"), "rule")),
            _page("clients_jointoken", _("Join tokens"), "link"),
            _page("accounts_user", _("Accounts"), "group"),
            _page("accounts_token", _("API tokens"), "vpn_key"),
            _page("accounts_session", _("Sessions"), "devices"),
            _page("django_celery_beat_periodictask", _("Periodic tasks"), "schedule"),
        ],
    },
]
