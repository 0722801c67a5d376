"""Logging in to the console, counted with the attempts at the API: whoever guesses has as many tries as there."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from rest_framework.exceptions import Throttled
from unfold.forms import AuthenticationForm

from accounts.throttling import count_attempt, forget_attempts


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """A user name and a password as people type them."""

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if username is None:
            return super().clean()  # type: ignore[no-any-return]
        try:
            count_attempt(self.request, username)
        except Throttled as error:
            raise ValidationError(_("Too many attempts failed. Try again in a minute or so.")) from error
        data: dict[str, Any] = super().clean()
        forget_attempts(self.request, username)
        return data
