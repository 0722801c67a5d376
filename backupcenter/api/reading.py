"""Reading what is sent often, and showing the rows of lists: a form is made once, as making it takes longer than using it."""

from functools import cache
from typing import Any

from rest_framework.serializers import Serializer


def validated(form: type[Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return what a request's data say. Raises ValidationError, as the form's `is_valid` does.

    `form`: whose validation depends on the data alone.
    """
    return dict(_made(form).run_validation(data))


def represented(form: type[Serializer[Any]], value: Any) -> dict[str, Any]:
    """Return what the form's `data` say of a value. `form`: whose representation depends on the value alone."""
    return dict(_made(form).to_representation(value))


@cache
def _made(form: type[Serializer[Any]]) -> Serializer[Any]:
    return form()
