"""Reading what is sent often: each form is made once, since to make it takes longer than to read with it."""

from functools import cache
from typing import Any

from rest_framework.serializers import Serializer


def validated(form: type[Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return what a request's data say. Raises ValidationError, as the form's `is_valid` does.

    `form`: whose validation depends on the data alone.
    """
    return dict(_made(form).run_validation(data))


@cache
def _made(form: type[Serializer[Any]]) -> Serializer[Any]:
    return form()
