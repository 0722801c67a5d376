"""What the console's own pages show of the history (`records.display`), for their templates."""

from typing import Any

from django import template
from django.urls import reverse

from records.display import duration_text, progress_percent, progress_text, size_text
from records.models import JobRecord

register = template.Library()

register.filter("size", size_text)
register.filter("duration", duration_text)
register.filter("progress_text", progress_text)
register.filter("percent", progress_percent)


@register.filter
def console_address(record: JobRecord) -> str:
    """Return the address of a record's page."""
    options: Any = record._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[record.pk])
