"""Settings of the server, read once from the environment; nothing else reads it.

Every variable has the prefix `BACKUPCENTER_` and is described in docs/operating.md. The defaults are safe: without
`BACKUPCENTER_SECRET_KEY` the server does not start unless debugging was asked for.
"""

import logging
import os
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.utils.translation import gettext_lazy as _

from backupcenter.navigation import NAVIGATION

BASE_DIR = Path(__file__).resolve().parent.parent


def _text(name: str, default: str = "") -> str:
    return os.environ.get(f"BACKUPCENTER_{name}", default)


def _flag(name: str, default: bool = False) -> bool:
    return _text(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def _list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in _text(name, default).split(",") if item.strip()]


def _number(name: str, default: int, unit: str = "") -> int:
    try:
        return int(_text(name, str(default)))
    except ValueError as error:
        raise ImproperlyConfigured(f"BACKUPCENTER_{name} must be a whole number{unit}") from error


def _seconds(name: str, default: int) -> int:
    return _number(name, default, " of seconds")


def _count(name: str, default: int) -> int:
    text = _text(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ImproperlyConfigured(f"BACKUPCENTER_{name} must be a whole number above 0")
    return int(text)


def _networks(name: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(text) for text in _list(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"BACKUPCENTER_{name} must hold networks like 169.254.0.0/16, separated by commas") from error


def _database(url: str) -> dict[str, object]:
    """Return Django's settings for `sqlite:///path` or `postgres://user:password@host:port/name`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(parts.path) or str(BASE_DIR / "backupcenter.sqlite3"),
            "OPTIONS": {
                # Writers queue at BEGIN instead of failing at their first write.
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
        }
    if parts.scheme in {"postgres", "postgresql"}:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(parts.port or ""),
            # Under ASGI a persistent connection would belong to a thread that never comes back; so they are kept in a pool.
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {
                # What comes again PostgreSQL neither parses nor plans anew, which is half of what agents cost it.
                "server_side_binding": True,
                "prepare_threshold": 5,
                "pool": {
                    "min_size": 1,
                    "max_size": _count("DATABASE_CONNECTIONS", 20),
                    "timeout": 10,
                    # A pool that goes on trying waits longer each time, and would be late to notice that the database is back.
                    "reconnect_timeout": 2,
                }
            },
        }
    raise ImproperlyConfigured("BACKUPCENTER_DATABASE_URL must begin with sqlite:// or postgres://")


DEBUG = _flag("DEBUG")
SECRET_KEY = _text("SECRET_KEY") or ("insecure-key-for-debugging-only" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("BACKUPCENTER_SECRET_KEY is not set")

# Keys that encrypt secrets in the database, newest first; the older ones only decrypt (manage.py rotatesecrets).
ENCRYPTION_KEYS = _list("ENCRYPTION_KEYS") or [SECRET_KEY]

ALLOWED_HOSTS = _list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _list("CSRF_TRUSTED_ORIGINS")
# How agents and people reach this server, for enrolment instructions.
PUBLIC_URL = _text("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
HTTPS = PUBLIC_URL.startswith("https://")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_eventstream",
    "django_celery_beat",
    "accounts",
    "storage",
    "clients",
    "records",
    "jobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "backupcenter.logs.name_job",
    "backupcenter.caching.keep_no_answers",
    "backupcenter.metrics.latency.measure",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # The last, so that it knows who asks and sees what the view itself answers.
    "accounts.audit.requests.audit",
]

ROOT_URLCONF = "backupcenter.urls"
ASGI_APPLICATION = "backupcenter.asgi.application"
# The API answers with and without a trailing slash itself; a redirect would lose the body of a PUT.
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database(_text("DATABASE_URL", f"sqlite://{BASE_DIR / 'backupcenter.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Of the API's digests, those of common passwords. The API's own examples are such, so that it is no rule for trying it out.
REFUSE_COMMON_PASSWORDS = _flag("REFUSE_COMMON_PASSWORDS", HTTPS)
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
# What a role may see and change in the console: viewers see these, operators change the latter.
VIEWED_APPS = ["storage", "clients"]
OPERATED_APPS = ["jobs", "records"]
# Whose objects the audit log names when they change.
AUDITED_APPS = ["accounts", *VIEWED_APPS, *OPERATED_APPS]
# The database keeps what is younger than 30 days from everybody (`accounts.audit.append_only`).
AUDIT_KEEP_DAYS = _number("AUDIT_KEEP_DAYS", 365, " of days")
if 0 < AUDIT_KEEP_DAYS < 30:
    raise ImproperlyConfigured("BACKUPCENTER_AUDIT_KEEP_DAYS must be 0 (for ever) or at least 30")
SESSION_ENGINE = "accounts.sessions"
# GET /login has the password's digest in its address; POST has not.
LOGIN_BY_GET = _flag("LOGIN_BY_GET", True)
# So many failures within the window (seconds), for one name from one address.
LOGIN_ATTEMPTS = _seconds("LOGIN_ATTEMPTS", 10)
LOGIN_WINDOW_S = _seconds("LOGIN_WINDOW", 60)

LANGUAGE_CODE = _text("LANGUAGE", "en")
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
# The second holds what the console's own package says and has no Chinese for.
LOCALE_PATHS = [BASE_DIR / "locale", BASE_DIR / "locale" / "unfold"]
FORMAT_MODULE_PATH = ["backupcenter.formats"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = _text("TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _flag("BEHIND_PROXY") else None
# Without the proxy's word nobody can tell whether a request came over TLS.
SECURE_SSL_REDIRECT = HTTPS and SECURE_PROXY_SSL_HEADER is not None
SECURE_HSTS_SECONDS = _seconds("HSTS", 365 * 86400 if HTTPS else 0)
# What other hosts below this name speak is not for this server to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"

# Networks of addresses that the server speaks to stores at though it would refuse them (see storage/admission.py).
STORE_ADDRESSES_ALLOWED = _networks("STORE_ADDRESSES_ALLOWED")

# One Redis per installation: the event fan-out's channel name ignores the database number.
REDIS_URL = _text("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"serializer": "backupcenter.caching.JSONSerializer"},
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "accounts.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["backupcenter.api.requests.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "backupcenter.api.requests.JSONNegotiation",
    "DEFAULT_METADATA_CLASS": None,
    "URL_FORMAT_OVERRIDE": None,
    # Whose address X-Forwarded-For may speak for: nobody, or the one proxy in front.
    "NUM_PROXIES": 1 if _flag("BEHIND_PROXY") else 0,
    "UNICODE_JSON": True,
    "DEFAULT_PAGINATION_CLASS": None,
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "backupcenter.api.schema.Schema",
    "EXCEPTION_HANDLER": "backupcenter.api.errors.handle_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
REST_KNOX = {
    "TOKEN_TTL": timedelta(seconds=_seconds("TOKEN_LIFETIME", 12 * 3600)),
    "AUTO_REFRESH": True,
    "MIN_REFRESH_INTERVAL": 600,
}
UNFOLD = {
    "SITE_TITLE": "Backup Center",
    "SITE_HEADER": "Backup Center",
    "SITE_SYMBOL": "backup",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("favicon.svg")}],
    "DASHBOARD_CALLBACK": "jobs.console.dashboard.add_figures",
    "STYLES": [lambda request: static("console.css")],
    "SIDEBAR": {"navigation": NAVIGATION},
    "SCRIPTS": [lambda request, name=name: static(name) for name in ("live.js", "charts.js", "labels.js")],
    "LOGIN": {"form": "accounts.console.LoginForm"},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Backup Center",
    "DESCRIPTION": "Central backups into standard restic repositories.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["backupcenter.api.schema.without_trailing_slashes"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "backupcenter.api.schema_additions.describe_event_stream",
        "backupcenter.api.schema_additions.describe_plan_details",
    ],
    "SCHEMA_PATH_PREFIX": "/api/",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": True,
    "ENUM_NAME_OVERRIDES": {
        "MaintenanceKindEnum": "records.models.MaintenanceRun.Kind",
        "EndpointType": "storage.models.Endpoint.Type",
        "RecordState": "records.models.State",
        "PlanState": "jobs.models.BackupPlan.State",
        "VerificationState": "storage.models.Verification.State",
    },
}

EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
_redis = urlsplit(REDIS_URL)
EVENTSTREAM_REDIS: dict[str, Any] = {
    "host": _redis.hostname or "127.0.0.1",
    "port": _redis.port or 6379,
    "db": int(_redis.path.lstrip("/") or 0),
    **({"username": unquote(_redis.username)} if _redis.username else {}),
    **({"password": unquote(_redis.password)} if _redis.password else {}),
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_ROUTES = {name: {"queue": "maintenance"} for name in ("records.run_maintenance", "records.sync_records")}
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Whoever reaches the broker, as every agent does, could end the workers with it.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 10, "socket_connect_timeout": 5}
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULER = "jobs.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_BEAT_SCHEDULE = {
    # A tick that waited in the queue longer than this has been overtaken by the next one.
    "tick": {"task": "jobs.tick", "schedule": 1.0, "options": {"expires": 10}},
    "watchdog": {"task": "jobs.watch", "schedule": 5.0, "options": {"expires": 10}},
    "broker": {"task": "clients.guard_broker", "schedule": 5.0, "options": {"expires": 10}},
    "presence": {"task": "clients.watch_presence", "schedule": 30.0, "options": {"expires": 30}},
    "tenants": {"task": "storage.refresh_tenants", "schedule": 600.0, "options": {"expires": 600}},
    "notifications": {"task": "records.notify", "schedule": 5.0, "options": {"expires": 10}},
    "own backup": {"task": "jobs.back_up_server", "schedule": 600.0, "options": {"expires": 600}},
    "plans' definitions": {"task": "jobs.keep_plans", "schedule": 300.0, "options": {"expires": 300}},
    "pings": {"task": "jobs.ping", "schedule": 5.0, "options": {"expires": 10}},
    "staleness": {"task": "jobs.watch_staleness", "schedule": 300.0, "options": {"expires": 300}},
    "verification": {"task": "records.verify", "schedule": 60.0, "options": {"expires": 60}},
    "drills": {"task": "jobs.drill", "schedule": 60.0, "options": {"expires": 60}},
    "retention": {"task": "jobs.apply_retention", "schedule": 3600.0, "options": {"expires": 3600}},
    "records": {"task": "records.sync_records", "schedule": crontab(hour="5", minute="20"), "options": {"expires": 6 * 3600}},
    "usage": {"task": "storage.sample_usage", "schedule": 3600.0, "options": {"expires": 3600}},
    "fleet": {"task": "jobs.note_fleet", "schedule": 600.0, "options": {"expires": 600}},
    "reports": {"task": "jobs.report", "schedule": 3600.0, "options": {"expires": 3600}},
    "recovery kit": {"task": "jobs.watch_kit", "schedule": 3600.0, "options": {"expires": 3600}},
    "housekeeping": {"task": "records.housekeep", "schedule": 3600.0, "options": {"expires": 3600}},
}

# The broker's address as agents see it; empty: the server's own.
AGENT_BROKER_URL = _text("AGENT_BROKER_URL") or REDIS_URL
# An agent that has not reported a job for this long has lost it.
JOB_LEASE_S = _seconds("JOB_LEASE", 30)
# So many jobs at once, waiting to be claimed or running, unless the client, repository or endpoint has a number of its own.
CLIENT_JOBS = _count("CLIENT_JOBS", 2)
REPOSITORY_JOBS = _count("REPOSITORY_JOBS", 20)
ENDPOINT_JOBS = _count("ENDPOINT_JOBS", 100)
# How often a job is tried before it stays lost.
JOB_ATTEMPTS = _seconds("JOB_ATTEMPTS", 3)
# A queued job that nobody claimed for this long is put on its queue again.
JOB_REPUBLISH_S = _seconds("JOB_REPUBLISH", 30)
CLIENT_OFFLINE_S = _seconds("CLIENT_OFFLINE", 60)
JOIN_TOKEN_LIFETIME_S = _seconds("JOIN_TOKEN_LIFETIME", 24 * 3600)
# After so long an agent's login is replaced by another; one that was not replaced ends after so long, 0: never.
AGENT_LOGIN_ROTATION_S = _seconds("AGENT_LOGIN_ROTATION", 24 * 3600)
AGENT_LOGIN_LIFETIME_S = _seconds("AGENT_LOGIN_LIFETIME", 90 * 24 * 3600)
EVENT_KEEP_DAYS = _seconds("EVENT_KEEP_DAYS", 30)
# Within so many days every byte of every repository is read once; 0: checks read structure only.
VERIFY_DATA_DAYS = _number("VERIFY_DATA_DAYS", 30, " of days")
# Checks by schedule read no more than that from one store in a day; 0: as much as the days above ask for.
VERIFY_GIB_PER_DAY = _number("VERIFY_GIB_PER_DAY", 1024, " of GiB")
if VERIFY_DATA_DAYS < 0 or VERIFY_GIB_PER_DAY < 0:
    raise ImproperlyConfigured("BACKUPCENTER_VERIFY_DATA_DAYS and BACKUPCENTER_VERIFY_GIB_PER_DAY must not be negative")
# For so long a backup that was deleted, or whose hold has ended, can be brought back.
TRASH_DAYS = _number("TRASH_DAYS", 7, " of days")
if TRASH_DAYS < 0:
    raise ImproperlyConfigured("BACKUPCENTER_TRASH_DAYS must be 0 (no grace) or a number of days")

# Where restore drills restore to, for as long as they look at it; whose commands run as this user if the server is root.
DRILL_DIRECTORY = _text("DRILL_DIRECTORY") or str(BASE_DIR / "drills")
DRILL_USER = _text("DRILL_USER", "nobody")
# Whether plans have drills unless somebody says otherwise.
DRILLS = _flag("DRILLS", True)
# So much at most a drill of a whole backup, and of a sample, restores.
DRILL_GIB = _count("DRILL_GIB", 100)
DRILL_SAMPLE_MIB = _count("DRILL_SAMPLE_MIB", 1024)
DRILL_COMMAND_S = _count("DRILL_COMMAND", 600)

# Opens /metrics to whoever has it; empty: only accounts' tokens do.
METRICS_TOKEN = _text("METRICS_TOKEN")
# The web processes of one machine then share their histograms there; prometheus_client reads the variable itself.
METRICS_ARE_SHARED = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))

# "line" for people, "json" for programs.
LOG_FORMAT = _text("LOG_FORMAT", "line")
if LOG_FORMAT not in ("line", "json"):
    raise ImproperlyConfigured("BACKUPCENTER_LOG_FORMAT must be line or json")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "agent.logs.JsonLines"},
    },
    "filters": {"redaction": {"()": "agent.logs.Redaction"}, "job": {"()": "agent.logs.JobField"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["redaction", "job"]}},
    "root": {"handlers": ["console"], "level": _text("LOG_LEVEL", "INFO")},
    # A line for each of the ticks, which come every second, would bury everything else.
    "loggers": {
        **{name: {"level": "WARNING"} for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat")},
        # It names addresses; what it says of failures is kept without them (`records.notifying.speaking`).
        "apprise": {"level": "WARNING", "propagate": False, "handlers": []},
    },
}
if LOG_FORMAT == "json":
    logging.captureWarnings(True)
    # Web servers have formats of their own.
    for _name in ("uvicorn", "uvicorn.access", "uvicorn.error", "django.server"):
        LOGGING["loggers"][_name] = {"handlers": [], "propagate": True}
