"""Routes that answer with and without a trailing slash; PUT changes the fields that are sent."""

from typing import Any

from rest_framework.routers import DynamicRoute, Route, SimpleRouter


class Router(SimpleRouter):
    """A router as the API's conventions want it.

    A view's `lookup_value_regex` may be ANY_TEXT for keys that hold slashes; its extra actions come first, so that such
    a key does not swallow them.
    """

    ANY_TEXT = ".+?"

    routes = [
        DynamicRoute("^{prefix}/{url_path}{trailing_slash}$", "{basename}-{url_name}", detail=False, initkwargs={}),
        DynamicRoute("^{prefix}/{lookup}/{url_path}{trailing_slash}$", "{basename}-{url_name}", detail=True, initkwargs={}),
        Route(
            "^{prefix}{trailing_slash}$",
            {"get": "list", "post": "create"},
            "{basename}-list",
            detail=False,
            initkwargs={"suffix": "List"},
        ),
        Route(
            "^{prefix}/{lookup}{trailing_slash}$",
            {"get": "retrieve", "put": "partial_update", "delete": "destroy"},
            "{basename}-detail",
            detail=True,
            initkwargs={"suffix": "Instance"},
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash: Any = "/?"
        self._default_value_pattern = "[^/]+"
