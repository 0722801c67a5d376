"""Every route that the server's URLs lead to, and all rows that there are."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def routes() -> dict[str, URLPattern]:
    """Return every route, without a slash at its end."""
    return {"/" + simplify_regex(text).strip("/"): pattern for text, pattern in _walk(get_resolver().url_patterns)}


def methods(pattern: URLPattern) -> list[str]:
    """Return the methods that a view of the API takes, but for those that Django derives."""
    view: Any = pattern.callback
    taken = getattr(view, "actions", None) or [name for name in view.cls.http_method_names if hasattr(view.cls, name)]
    return sorted(name.upper() for name in taken if name not in ("head", "options"))


def stored_rows(*but: str) -> dict[str, list[Any]]:
    """Return the content of every table but those of the models in `but`, to compare with what it is later."""
    models = (model for model in apps.get_models() if not model._meta.proxy and model._meta.label not in but)
    return {model._meta.label: sorted(map(repr, model._base_manager.values_list())) for model in models}


def _walk(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        text = prefix + str(pattern.pattern).removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, text)
        else:
            yield text, pattern
