"""Accounts and credentials as the API shows and takes them. A password here is the MD5 hex digest of what was typed."""

from typing import Any

from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError as InvalidPassword
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.models import User, is_password_digest
from accounts.passwords import check_digest
from backupcenter.api.fields import UnixTimeField
from backupcenter.api.fixed import without_fixed


class DigestField(serializers.CharField):
    """32 hexadecimal digits: the MD5 digest of a password."""

    default_error_messages = {"digest": _("Must be the MD5 digest of the password, 32 hexadecimal digits.")}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"write_only": True, "max_length": 32, "min_length": 32, **options})

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not is_password_digest(text):
            self.fail("digest")
        return text.lower()


class LoginSerializer(serializers.Serializer[Any]):
    """A user name and the MD5 hex digest of the password."""

    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=128, help_text=_("MD5 hex digest of the password."))


class UsernameField(serializers.CharField):
    """Letters, digits and @ . + - _, at most 150; compatible spellings of one letter are one letter."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=150, validators=[UnicodeUsernameValidator()], **options)

    def to_internal_value(self, data: Any) -> str:
        return str(User.normalize_username(super().to_internal_value(data)))


class AccountSerializer(serializers.ModelSerializer[User]):
    """An account."""

    last_login = UnixTimeField(read_only=True, allow_null=True)

    class Meta:
        model = User
        fields = ["username", "role", "is_active", "last_login"]
        read_only_fields = fields


class NewAccountSerializer(serializers.Serializer[Any]):
    """What creates an account."""

    username = UsernameField()
    password = DigestField()
    role = serializers.ChoiceField(User.Role.choices, default=User.Role.VIEWER)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        _refuse_common(attrs, "password", attrs["username"])
        return attrs


class AccountChangeSerializer(serializers.Serializer[Any]):
    """What changes an account: the password, and for administrators the role and whether it may log in."""

    username = UsernameField(required=False, write_only=True, help_text=_("Cannot be changed."))
    new_password = DigestField(required=False)
    old_password = serializers.CharField(
        max_length=128, required=False, write_only=True, help_text=_("Required to change one's own password.")
    )
    role = serializers.ChoiceField(User.Role.choices, required=False, write_only=True)
    is_active = serializers.BooleanField(required=False, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(self.instance, User)
        _refuse_common(attrs, "new_password", self.instance.username)
        return without_fixed(attrs, {"username": self.instance.username})


def _refuse_common(attrs: dict[str, Any], name: str, username: str) -> None:
    try:
        if name in attrs:
            check_digest(attrs[name], username)
    except InvalidPassword as error:
        raise serializers.ValidationError({name: error.messages}) from error
