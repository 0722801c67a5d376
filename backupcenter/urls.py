"""Routes: the API, the admin console and the pages beside them.

`/api/event` is not here: `backupcenter.asgi` answers it before Django (see `records.stream`).
"""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
