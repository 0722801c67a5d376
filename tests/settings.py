"""The server's settings for tests: keys that protect nothing, and no service that nobody started."""

import os

os.environ.setdefault("BACKUPCENTER_SECRET_KEY", "only-for-tests")
os.environ.setdefault("BACKUPCENTER_PUBLIC_URL", "http://127.0.0.1:8000")

from backupcenter.settings import *  # noqa: F403

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if "BACKUPCENTER_REDIS_URL" not in os.environ:
    # A port on which nothing listens: what needs Redis in a test asks for one.
    CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    EVENTSTREAM_REDIS = {"host": "127.0.0.1", "port": 1}
# Every test client would make a list of all static files, which takes longer than most tests.
WHITENOISE_AUTOREFRESH = True
# The real hasher is slow on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
