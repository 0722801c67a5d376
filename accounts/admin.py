"""The console's pages of accounts and their tokens."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

import accounts.audit.admin  # noqa: F401 - registers its page
from accounts.managing import (
    LastAdministrator,
    end_tokens,
    is_administrator_left_without,
    require_another_administrator,
)
from accounts.models import Session, Token, User
from accounts.sessions import digest
from backupcenter.console import tell_done
from backupcenter.deleting import NameToDelete

# Roles take the place of groups; the page of tokens is our own.
admin.site.unregister([Group, AuthToken])


class AccountForm(UserChangeForm):
    """An account; the last administrator remains one."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        leaves = data.get("role") != User.Role.ADMINISTRATOR or not data.get("is_active")
        if not self.errors and leaves and User.objects.get(pk=self.instance.pk).is_administrator:
            try:
                require_another_administrator(self.instance)
            except LastAdministrator as error:
                raise ValidationError(str(error)) from error
        return data


@admin.register(User)
class AccountAdmin(NameToDelete, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """Accounts; passwords are taken as people type them."""

    lost = _("Its tokens and sessions end at once. What it did stays in the audit log.")

    form = AccountForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "role", "is_active", "last_login"]
    list_filter = ["role", "is_active"]
    search_fields = ["username", "first_name", "last_name", "email"]
    ordering = ["username"]
    filter_horizontal = ()
    readonly_fields = ["last_login", "date_joined"]
    actions = ["end_tokens"]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        (_("Permissions"), {"fields": ["role", "is_active"]}),
        (_("Person"), {"fields": ["first_name", "last_name", "email"]}),
        (_("Dates"), {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"classes": ["wide"], "fields": ["username", "role", "password1", "password2"]})]

    @admin.action(description=_("End the tokens of the selected accounts"), permissions=["change"])
    def end_tokens(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            end_tokens(user)
            tell_done(self, request, user, _("%(account)s has to log in again."), account=user)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        deleted, counts, permissions, protected = super().get_deleted_objects(objs, request)
        if not is_administrator_left_without(objs):
            protected = [*protected, gettext("the last administrator")]
        return deleted, counts, permissions, protected


class EndingAdmin(ModelAdmin):
    """What an account is logged in with, to see and to end. Its key is known to nobody but its owner.

    The list holds all there is to see, so nothing links to a page whose address would be the token's digest.
    """

    list_display_links = None
    list_filter = ["user"]
    search_fields = ["user__username"]
    list_select_related = ["user"]
    actions = ["end"]

    @admin.action(description=_("End the selected ones at once"), permissions=["delete"])
    def end(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            tell_done(self, request, row, _("%(ended)s has ended."), ended=row)
            row.delete()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Token)
class TokenAdmin(EndingAdmin):
    """Tokens of the API."""

    list_display = ["user", "created", "expiry"]
    fields = ["user", "created", "expiry"]


@admin.register(Session)
class SessionAdmin(EndingAdmin):
    """Who is logged in to the console, and from where."""

    list_display = ["user", "address", "browser", "began_at", "expire_date", "is_own"]
    fields = ["user", "address", "browser", "began_at", "expire_date"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        own = Q(session_key=digest(request.session.session_key or ""))
        rows: QuerySet[Session] = Session.objects.live().filter(user__isnull=False).annotate(own=own)
        return rows

    @admin.display(description=_("this one"), boolean=True)
    def is_own(self, session: Any) -> bool:
        return bool(session.own)
