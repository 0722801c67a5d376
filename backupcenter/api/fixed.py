"""Fields that PUT cannot change: taken if they are sent as they are, so that an object may be sent back whole, else refused."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError


def without_fixed(sent: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sent without the fields of `present`. Raises ValidationError if one was sent with another value."""
    changed = [name for name, value in present.items() if name in sent and sent[name] != value]
    if changed:
        raise ValidationError({name: [_("This field cannot be changed.")] for name in changed})
    return {name: value for name, value in sent.items() if name not in present}
