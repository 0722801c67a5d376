"""What the history tells of accounts and stores, whose rooms know nothing of events."""

from typing import Any

from django.conf import settings
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts.models import User
from records.events import emit
from records.models import Event
from storage.growth import WARNED_AT, quota_reached
from storage.models import Tenant
from storage.tenants import access_changed


@receiver(access_changed)
def tell_access(sender: Any, tenant: Tenant, **_extra: Any) -> None:
    if tenant.refresh_error:
        title = _("Tenant %(tenant)s cannot be read from its store") % {"tenant": tenant}
        emit(Event.Level.ERROR, Event.Topic.STORAGE, title, tenant.refresh_error, occasion=Event.Occasion.STORE_UNREADABLE)
    else:
        emit(Event.Level.SUCCESS, Event.Topic.STORAGE, _("Tenant %(tenant)s can be read again") % {"tenant": tenant})


@receiver(quota_reached)
def tell_quota(sender: Any, tenant: Tenant, percent: int, **_extra: Any) -> None:
    title = _("Tenant %(tenant)s uses %(percent)d %% of its quota") % {"tenant": tenant, "percent": percent}
    message = _("%(used)s of %(quota)s. Backups that do not fit fail before they start: raise the quota, or let backups go sooner.")
    sizes = {"used": filesizeformat(tenant.used or 0), "quota": filesizeformat(tenant.quota or 0)}
    level = Event.Level.ERROR if percent >= WARNED_AT[-1] else Event.Level.WARNING
    emit(level, Event.Topic.STORAGE, title, message % sizes, occasion=Event.Occasion.QUOTA)


@receiver(post_save, sender=User)
def tell_new_account(sender: Any, instance: User, created: bool, raw: bool, **_extra: Any) -> None:
    if created and not raw:
        # Kept, so not in the language of whoever creates it.
        with override(settings.LANGUAGE_CODE):
            title = _("Account %(account)s was created") % {"account": instance.username}
            emit(Event.Level.INFO, Event.Topic.ACCOUNT, title, instance.get_role_display(), occasion=Event.Occasion.SECURITY)


@receiver(post_delete, sender=User)
def tell_deleted_account(sender: Any, instance: User, **_extra: Any) -> None:
    with override(settings.LANGUAGE_CODE):
        title = _("Account %(account)s was deleted") % {"account": instance.username}
        emit(Event.Level.WARNING, Event.Topic.ACCOUNT, title, occasion=Event.Occasion.SECURITY)
