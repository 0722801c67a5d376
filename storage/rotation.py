"""Rotation of the key that encrypts secrets: every secret in the database is written anew with the newest key."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db.models import Model, TextField
from django.db.models.functions import Cast

from storage.secrets import EncryptedTextField, decrypt

BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class Rotation:
    """How many rows of one field were written anew."""

    field: str
    rows: int


def rotate_secrets() -> Iterator[Rotation]:
    """Re-encrypt every secret of every model, field by field. May be interrupted and run again."""
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedTextField) and field.model is model:
                yield Rotation(f"{model._meta.label}.{field.name}", _rotate_field(model, field.name))


def _rotate_field(model: type[Model], name: str) -> int:
    rows = model._default_manager.annotate(stored=Cast(name, TextField())).exclude(stored="").order_by("pk")
    rotated, last = 0, None
    while True:
        batch = list((rows if last is None else rows.filter(pk__gt=last)).values_list("pk", "stored")[:BATCH_ROWS])
        if not batch:
            return rotated
        for pk, stored in batch:
            if stored is not None:
                # Only if nobody has changed the secret since it was read.
                rotated += rows.filter(pk=pk, stored=stored).update(**{name: decrypt(stored)})
        last = batch[-1][0]
