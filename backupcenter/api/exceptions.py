"""Failures that the API's rules raise, beyond those that the framework has; `errors` makes answers of them."""

from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException


class Conflict(APIException):
    """The request is well formed, but what it asks for does not fit what there is (409)."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = _("This does not fit the present state.")
    default_code = "conflict"


class BodyTooLarge(APIException):
    """The request's body is larger than any that the API has a use for (413)."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request body is too large.")
    default_code = "too_large"
