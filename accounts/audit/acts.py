"""What is done in one request or command: by whom, and which objects it changes. Names of fields are kept, values never."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import DatabaseError
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save

log = logging.getLogger("audit")

# What a single act touches beyond this number is counted, not named.
NAMED_OBJECTS = 50
NAME_LENGTH = 200
# Logs themselves; and sessions, which are saved with any request.
UNWATCHED = {"accounts.auditentry", "records.event"}
UNWATCHED_SAVES = {"accounts.session"}


@dataclass(slots=True)
class Act:
    """What is happening. `actor`: the name of an account or of the operating system's user, "" for nobody we know."""

    via: str
    actor: str = ""
    address: str | None = None
    action: str = ""
    path: str = ""
    objects: list[dict[str, Any]] = field(default_factory=list)
    unnamed: int = 0
    # One more of what is in the log already, which anybody could repeat for ever.
    is_repeated: bool = False

    def note(self, row: Model, change: str, fields: list[str] | None = None) -> None:
        """Remember that an object was `created`, `changed`, `deleted` or `acted on`."""
        if len(self.objects) >= NAMED_OBJECTS:
            self.unnamed += 1
            return
        known = {"model": row._meta.label_lower, "id": _number(row), "name": str(row)[:NAME_LENGTH]}
        said = {**known, "change": change, "fields": fields or []}
        if said not in self.objects:
            self.objects.append(said)

    def record(self, outcome: str, status: int | None = None) -> None:
        """Add what happened to the log. What the database does not take stays in the program's own log."""
        from accounts.models import AuditEntry

        entry = AuditEntry(
            actor=self.actor,
            address=self.address,
            via=self.via,
            action=self.action[:150],
            # PostgreSQL has no NUL, and who asks for one is not to be left out.
            path=self.path.replace("\0", "%00")[:500],
            outcome=outcome,
            status=status,
            touched=self.objects,
            unnamed=self.unnamed,
        )
        said = "via=%s actor=%s address=%s action=%s outcome=%s status=%s objects=%s"
        touched = [f"{each['change']} {each['model']} {each['id'] or each['name']}" for each in self.objects]
        log.info(said, self.via, self.actor or "-", self.address or "-", self.action, outcome, status or "-", touched)
        try:
            entry.save()
        except DatabaseError as error:
            # Such as before there is a database.
            log.error("the entry above could not be added to the audit log: %s", str(error).partition("\n")[0])


_current: ContextVar[Act | None] = ContextVar("act", default=None)


def current_act() -> Act | None:
    return _current.get()


@contextmanager
def acting(act: Act) -> Iterator[Act]:
    """Let what is changed within the block be noted with the act."""
    token = _current.set(act)
    try:
        yield act
    finally:
        _current.reset(token)


def note(row: Model) -> None:
    """Remember that something was done with an object that need not have changed it."""
    if act := current_act():
        act.note(row, "acted on")


def watch() -> None:
    """Note what is changed in the rooms' models, and who logs in or out."""
    for model in apps.get_models():
        label = model._meta.label_lower
        if model._meta.app_label not in settings.AUDITED_APPS or label in UNWATCHED:
            continue
        # Model by model: what nobody listens to is deleted in one statement.
        post_delete.connect(_after_delete, sender=model, dispatch_uid="audit")
        if label not in UNWATCHED_SAVES:
            pre_save.connect(_before_save, sender=model, dispatch_uid="audit")
            post_save.connect(_after_save, sender=model, dispatch_uid="audit")
    user_logged_in.connect(_logged_in, dispatch_uid="audit")
    user_logged_out.connect(_logged_in, dispatch_uid="audit")


def _before_save(sender: type[Model], instance: Model, raw: bool = False, update_fields: Any = None, **_more: Any) -> None:
    act = current_act()
    if act is None or raw or instance._state.adding:
        return
    names = [each.attname for each in sender._meta.concrete_fields if update_fields is None or each.name in update_fields]
    before = sender._base_manager.filter(pk=instance.pk).values(*names).first() or {}
    changed = [name.removesuffix("_id") for name in names if name in before and before[name] != getattr(instance, name)]
    if changed:
        act.note(instance, "changed", changed)


def _after_save(sender: type[Model], instance: Model, created: bool, raw: bool = False, **_more: Any) -> None:
    act = current_act()
    if act is not None and created and not raw:
        act.note(instance, "created")


def _after_delete(sender: type[Model], instance: Model, **_more: Any) -> None:
    act = current_act()
    if act is not None:
        act.note(instance, "deleted")


def _logged_in(sender: Any, user: Any = None, **_more: Any) -> None:
    act = current_act()
    if act is not None and user is not None:
        act.actor = user.get_username()


def note_attempt(username: str) -> None:
    """Remember who wants to log in, if there is such an account: people type passwords in place of names.

    Those must not be kept.
    """
    if act := current_act():
        model: Any = apps.get_model(settings.AUTH_USER_MODEL)
        act.actor = username if "\0" not in username and model.objects.filter(username=username).exists() else ""


def _number(row: Model) -> str:
    # Keys that are texts are digests of tokens and of sessions.
    return str(row.pk) if isinstance(row.pk, int | UUID) else ""
