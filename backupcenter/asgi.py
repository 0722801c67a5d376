"""The ASGI application: Django."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")

application = get_asgi_application()
