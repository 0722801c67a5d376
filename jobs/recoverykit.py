"""The recovery kit: what is needed to restore with nothing but the stores, on one page to print or to keep elsewhere.

The page tells in both languages what to do, with the commands for `restic`. The secrets are sealed under a passphrase
(`storage.sealing`): an archive with a file of environment variables for each repository, and `kit.json`, which
`jobs.rebuilding` makes the server's rows of again.
"""

import hashlib
import hmac
import io
import json
import re
import tarfile
from dataclasses import dataclass
from shlex import quote
from typing import Any

from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import override

from clients.models import Client
from engine.errors import EngineError
from jobs.models import BackupPlan, MadeKit, OwnBackup, SigningKey
from jobs.serializers import plan_detail
from jobs.signing import public_key
from records.events import emit
from records.models import Event
from storage.models import Endpoint, Repository, Tenant
from storage.repositories import open_with, repository_store
from storage.sealing import OPENSSL, CannotOpen, seal, unseal

FORMAT = 1
BEGIN, END = "-----BEGIN SEALED PART-----", "-----END SEALED PART-----"
LANGUAGES = ("en", "zh-hans")
_SEALED = re.compile(f"^{BEGIN}\n(.*?)\n{END}$", re.MULTILINE | re.DOTALL)
_SUMS = "SHA256SUMS"


class UnusableKit(Exception):
    """A page is no kit, is sealed under another passphrase, or is damaged. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A repository as the page names it; `commands`: with which it is restored from, once the sealed part is opened."""

    location: str
    hosts: str
    commands: list[str]


def make_kit(passphrase: str) -> str:
    """Return the page (HTML), with what the server knows now, and remember that it was made."""
    # Drawn now if there is none yet: with it one knows that definitions in repositories are the server's.
    public_key()
    content = _describe()
    MadeKit.objects.create(fingerprint=_fingerprint(content))
    rows = content["repositories"]
    sealed = seal(_archive(content), passphrase)
    context = {
        "made_at": timezone.now(),
        "entries": [Entry(row["location"], ", ".join(row["hosts"]), _commands(number, row)) for number, row in enumerate(rows, 1)],
        "open_commands": [
            "umask 077",
            f"sed -n '/^{BEGIN}$/,/^{END}$/{{/^-----/d;p;}}' kit.html > sealed.txt",
            f"{OPENSSL} -in sealed.txt -out kit.tar.gz",
            f"mkdir kit && tar -xzf kit.tar.gz -C kit && cd kit && sha256sum -c {_SUMS}",
        ],
        "load_commands": ["python manage.py restoreserver --kit kit.html", "python manage.py migrate"],
        "rebuild_commands": ["python manage.py migrate", "python manage.py rebuild --kit kit.html"],
        "has_own_backup": content["own_backup"] is not None,
        "sealed": f"{BEGIN}\n{sealed}\n{END}",
    }
    parts = []
    for language in LANGUAGES:
        with override(language):
            parts.append(render_to_string("recoverykit/instructions.html", {**context, "language": language}))
    return render_to_string("recoverykit/page.html", {**context, "parts": parts})


def tell_outdated_kit() -> bool:
    """Tell by an event, once, that the newest kit lacks secrets that there are by now; return whether it was told."""
    newest = MadeKit.objects.first()
    if newest is None or newest.is_outdated_told or newest.fingerprint == _fingerprint(_describe()):
        return False
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        if not MadeKit.objects.filter(pk=newest.pk, is_outdated_told=False).update(is_outdated_told=True):
            return False
        title = _("The recovery kit is out of date")
        reason = _("Repositories, keys or passwords changed since %(time)s. Make a new one: %(command)s")
        said = reason % {"time": newest, "command": "manage.py recoverykit --output kit.html"}
        emit(Event.Level.WARNING, Event.Topic.STORAGE, title, said)
    return True


def open_kit(page: str, passphrase: str) -> dict[str, Any]:
    """Return what `kit.json` of a page holds, after comparing all sums. Raises UnusableKit."""
    found = _SEALED.search(page.replace("\r\n", "\n"))
    if found is None:
        raise UnusableKit(_("This is no recovery kit: it has no sealed part."))
    try:
        with tarfile.open(fileobj=io.BytesIO(unseal(found[1], passphrase)), mode="r:gz") as archive:
            files = {member.name: _content(archive, member) for member in archive}
        sums = dict(line.split("  ", 1)[::-1] for line in files.pop(_SUMS).decode().splitlines())
        if sums != {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}:
            raise UnusableKit(_("The recovery kit is damaged: its check sums do not match."))
        content: dict[str, Any] = json.loads(files["kit.json"])
    except (CannotOpen, tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise UnusableKit(_("The passphrase does not open the recovery kit, or it is damaged.")) from error
    if content.get("format") != FORMAT:
        raise UnusableKit(_("The recovery kit was made by another version of the server."))
    return content


def verify_kit(content: dict[str, Any]) -> dict[str, str]:
    """Open each repository with what the kit holds; return by location what is wrong, empty: it opens."""
    found = {}
    for row in content["repositories"]:
        try:
            repository = repository_of(row, content)
            opened = open_with(repository_store(repository), repository)
            found[row["location"]] = "" if opened.config.id == row["repository_id"] else _("It is another repository.")
            opened.close()
        except EngineError as error:
            found[row["location"]] = str(error)
    return found


def missing_repositories(content: dict[str, Any]) -> list[str]:
    """Return the locations of the repositories that the kit lacks, or has another password of."""
    known = {(row["location"], row["password"]) for row in content["repositories"]}
    return [row.location for row in _repositories() if (row.location, row.password) not in known]


def repository_of(row: dict[str, Any], content: dict[str, Any]) -> Repository:
    """Return the repository that an entry of the kit describes, with its tenant and endpoint; none of it is stored."""
    kept = next(each for each in content["tenants"] if each["number"] == row["tenant"])
    endpoint = Endpoint(**next(each for each in content["endpoints"] if each["address"] == kept["endpoint"]))
    tenant = Tenant(endpoint=endpoint, **{name: kept[name] for name in TENANT_FIELDS})
    fields = {name: row[name] for name in ("bucket", "prefix", "password", "repository_id")}
    return Repository(tenant=tenant, **fields)


ENDPOINT_FIELDS = ("address", "https", "type", "display_name", "authorities")
TENANT_FIELDS = (
    "username", "display_name", "access_key", "secret_key", "agent_access_key", "agent_secret_key", "agent_username", "lock_days"
)  # fmt: skip
CLIENT_FIELDS = ("id", "ipv4", "ipv6", "hostname", "root")


def _repositories() -> list[Repository]:
    return list(Repository.objects.exclude(repository_id="").select_related("tenant__endpoint").order_by("pk"))


def _describe() -> dict[str, Any]:
    plans = list(BackupPlan.objects.select_related("client", "tenant__endpoint", "repository__tenant__endpoint").order_by("pk"))
    hosts: dict[int, set[str]] = {}
    for plan in plans:
        hosts.setdefault(plan.repository_id, set()).add(plan.client.hostname)
    place = OwnBackup.objects.select_related("repository__tenant__endpoint").first()
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(),
        "server": {"secret_key": settings.SECRET_KEY, "encryption_keys": settings.ENCRYPTION_KEYS},
        "endpoints": [{name: getattr(row, name) for name in ENDPOINT_FIELDS} for row in Endpoint.objects.all()],
        "tenants": [
            {"number": row.pk, "endpoint": row.endpoint.address, **{name: getattr(row, name) for name in TENANT_FIELDS}}
            for row in Tenant.objects.select_related("endpoint")
        ],
        "repositories": [
            {
                "location": row.location,
                "tenant": row.tenant_id,
                "bucket": row.bucket,
                "prefix": row.prefix,
                "password": row.password,
                "repository_id": row.repository_id,
                "hosts": sorted(hosts.get(row.pk, ())),
                "authorities": row.tenant.endpoint.authorities,
                "keys": [row.tenant.access_key, row.tenant.secret_key] if row.tenant.credentials else None,
            }
            for row in _repositories()
        ],
        "clients": [{name: getattr(row, name) for name in CLIENT_FIELDS} for row in Client.objects.order_by("pk")],
        "own_backup": place.repository.location if place else None,
        "signing_keys": list(SigningKey.objects.values("private_key", "public_key")),
        "plans": [{**plan_detail(plan), "repository": plan.repository.location} for plan in plans],
    }


def _fingerprint(content: dict[str, Any]) -> str:
    """Return what is the same as long as the stores' addresses and all secrets are."""
    secrets = [[row["location"], row["password"], row["keys"]] for row in content["repositories"]]
    names = ("server", "endpoints", "tenants", "own_backup", "signing_keys")
    text = json.dumps([secrets, *(content[name] for name in names)])
    return hmac.new(settings.SECRET_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def _archive(content: dict[str, Any]) -> bytes:
    files = {"kit.json": json.dumps(content, ensure_ascii=False, indent=1)}
    server = content["server"]
    files["server.env"] = _exports(
        BACKUPCENTER_SECRET_KEY=server["secret_key"], BACKUPCENTER_ENCRYPTION_KEYS=",".join(server["encryption_keys"])
    )
    for number, row in enumerate(content["repositories"], 1):
        variables = {"RESTIC_REPOSITORY": row["location"], "RESTIC_PASSWORD": row["password"]}
        if row["keys"]:
            variables |= dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), row["keys"], strict=True))
        files[f"repository-{number}.env"] = _exports(**variables)
        if row["authorities"]:
            files[f"authorities-{number}.pem"] = row["authorities"]
    sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items())
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, text in {**files, _SUMS: sums}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o600
            archive.addfile(member, io.BytesIO(text.encode()))
    return written.getvalue()


def _commands(number: int, row: dict[str, Any]) -> list[str]:
    trusting = f" --cacert authorities-{number}.pem" if row["authorities"] else ""
    return [
        f". ./repository-{number}.env",
        f"restic{trusting} snapshots",
        f"restic{trusting} restore latest --target restored-{number}",
        f"restic{trusting} check",
    ]


def _exports(**variables: str) -> str:
    return "".join(f"export {name}={quote(value)}\n" for name, value in variables.items())


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""
