"""`backupcenter-agent doctor`: whether all is there that the agent needs, and what to do about what is not.

A person's doctor looks with the rights of that person. The agent looks too, when it starts and once a day, with those of its
service. Both tell the server, which shows what was found last. Nothing here names a secret.
"""

import getpass
import json
import logging
import os
import shutil
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import urllib3
from packaging.requirements import Requirement

from agent.allowed import AllowedFileBroken, allowed_place, load_allowed
from agent.center import Center, CenterError
from agent.config import FILE, NotJoined, load_config
from engine import __version__

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
# Object stores refuse requests that are a quarter of an hour off; long before that logs and leases stop making sense.
CLOCK_MAY_BE_OFF_S = 30.0
FREE_BYTES = 64 << 20
CHECK_EVERY_S = 24 * 3600.0
DISTRIBUTION = "backupcenter-agent"
# <linux/capability.h>
CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID = 0, 1, 2, 3, 4
TO_RESTORE = (CHOWN, DAC_OVERRIDE, FOWNER, FSETID)

Status = Literal["ok", "note", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and found. `fix`: what to do about it; a note may be as it is wanted."""

    name: str
    status: Status
    found: str
    fix: str = ""


def doctor(state: Path, *, as_json: bool) -> int:
    """Check everything, print what was found and tell the server; return the exit status, 1 if something is to be fixed."""
    checks = []
    for check in all_checks(state):
        checks.append(check)
        if not as_json:
            _print(check)
    is_told = False
    try:
        config = load_config(state)
        Center(config.center, config.token).report_checks([asdict(check) for check in checks])
        is_told = True
    except (NotJoined, CenterError) as error:
        print(f"the server was not told: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "told": is_told}, indent=1))
    return int(any(check.status == "failed" for check in checks))


def check_for_ever(center: Center, state: Path) -> None:
    """Check now and once a day, log what is to be fixed, and tell the server; for a thread."""
    while True:
        try:
            checks = list(all_checks(state))
            for check in checks:
                if check.status == "failed":
                    log.error("check=%s %s; %s", check.name, check.found, check.fix)
            center.report_checks([asdict(check) for check in checks])
        except CenterError as error:
            log.warning("the server was not told what was checked: %s", error)
        except Exception:
            log.exception("the checks failed")
        time.sleep(CHECK_EVERY_S)


def all_checks(state: Path) -> Iterator[Check]:
    """Yield the checks, each as soon as it is known; what needs the server comes last."""
    yield check_python()
    yield check_packages()
    yield from check_rights()
    yield check_space("state directory", state)
    yield check_space("temporary files", Path(tempfile.gettempdir()))
    yield check_allowed()
    yield check_state(state)
    try:
        config = load_config(state)
    except NotJoined:
        return
    yield check_broker(config.broker)
    before = time.time()
    try:
        told = Center(config.center, config.token).stores()
        now, stores = float(told["time"]), [(str(store["address"]), str(store["authorities"])) for store in told["stores"]]
    except CenterError as error:
        fix = f"see that {config.center} can be reached from here; if the token was revoked, join again"
        yield Check("server", "failed", str(error), fix)
        return
    except (KeyError, TypeError, ValueError):
        yield Check("server", "failed", f"what answers at {config.center} is not the server", "see what is at this address")
        return
    yield Check("server", "ok", f"{config.center} answers")
    yield check_clock(now - (before + time.time()) / 2)
    for address, authorities in stores:
        yield check_store(address, authorities)


def check_python() -> Check:
    found = f"Python {sys.version.split()[0]} on {sys.platform}"
    if sys.platform != "linux":
        return Check("python", "note", found, "the agent was made for Linux; docs/agent.md says what is missing elsewhere")
    return Check("python", "ok", found)


def check_packages() -> Check:
    """Whether what the agent asks for is installed in a version that it asks for."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return Check("packages", "ok", f"agent {__version__} from a checkout")
    wrong = []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, wanted is {requirement.specifier}")
    if wrong:
        return Check("packages", "failed", "; ".join(wrong), f"install the agent again: {sys.prefix}/bin/pip install <its wheel>")
    return Check("packages", "ok", f"agent {__version__} and what it needs")


def check_rights() -> Iterator[Check]:
    """What this process may read, and whether it could restore."""
    held = _capabilities()
    user = _user()
    if held & (1 << DAC_READ_SEARCH | 1 << DAC_OVERRIDE):
        yield Check("reading", "ok", f"{user} may read every file")
    else:
        fix = "for more, run it as deploy/backupcenter-agent.service does, with CAP_DAC_READ_SEARCH"
        yield Check("reading", "note", f"{user} may read only what is open to this user", fix)
    if all(held & 1 << capability for capability in TO_RESTORE):
        yield Check("restoring", "ok", f"{user} may give restored files their owners")
    else:
        fix = "where restores are wanted, install deploy/backupcenter-agent-restore.conf"
        yield Check("restoring", "note", f"restored files would belong to {user}", fix)


def check_space(name: str, directory: Path) -> Check:
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check(name, "failed", f"{place}: {error.strerror}", "let the agent's user read it")
    if not os.access(place, os.W_OK | os.X_OK):
        fix = "run this as the agent's user, or let that one write there"
        return Check(name, "failed", f"{place} cannot be written to by {_user()}", fix)
    found = f"{free >> 20} MiB free at {place}"
    if free < FREE_BYTES:
        return Check(name, "failed", found, f"make room: {FREE_BYTES >> 20} MiB are the least to work with")
    return Check(name, "ok", found)


def check_state(state: Path) -> Check:
    """Whether the host has joined, and nobody else can read with what."""
    try:
        config = load_config(state)
    except NotJoined as error:
        return Check("state", "failed", str(error), "get a join token from the console and run: backupcenter-agent join")
    path = state / FILE
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        return Check("state", "failed", f"others may read {path} (mode {mode:04o})", f"chmod go= {path}; then join again")
    return Check("state", "ok", f"joined {config.center} as {config.hostname}")


def check_allowed() -> Check:
    """Whether the file of what the server may have run counts, and where its programs are."""
    place = allowed_place()
    try:
        allowed = load_allowed()
    except AllowedFileBroken as error:
        fix = "until then no command of a plan is run; docs/sources.md says what stands in it, and who may write to it"
        return Check("allowed commands", "failed", str(error), fix)
    if missing := [f"{program} ({label})" for label, program in allowed.missing_programs()]:
        fix = f"install them, or see “path” and the names in {place}"
        return Check("allowed commands", "failed", f"there is no {', '.join(missing)}", fix)
    names = [*allowed.commands, *(f"{name} (preset)" for name in allowed.presets)]
    return Check("allowed commands", "ok", f"{place}: {', '.join(names)}" if names else "the server may have none run")


def check_broker(url: str) -> Check:
    # It takes a while to import.
    from redis import Redis

    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 6379}"
    timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    try:
        # As little said as by `agent.transport`, which is all that the agent's login may.
        with Redis.from_url(url, protocol=2, driver_info=None, **timeouts) as broker:
            broker.ping()
    except Exception as error:
        # Of any library on the way there; none of them is to say what the address holds besides.
        reason = str(error)
        for secret in filter(None, (parts.password, parts.username)):
            reason = reason.replace(unquote(secret), "***").replace(secret, "***")
        fix = "open the way to it in the firewall; if it refused the login, join again"
        return Check("broker", "failed", f"{place}: {reason}", fix)
    return Check("broker", "ok", f"{place} answers")


def check_clock(ahead_s: float) -> Check:
    """`ahead_s`: how many seconds the server's clock is ahead of ours."""
    found = f"{abs(ahead_s):.0f} s {'behind' if ahead_s > 0 else 'ahead of'} the server's"
    if abs(ahead_s) > CLOCK_MAY_BE_OFF_S:
        return Check("clock", "failed", found, "have the time set by the network, on both (chrony, systemd-timesyncd)")
    return Check("clock", "ok", found)


def check_store(address: str, authorities: str) -> Check:
    """Whether a store answers, which need not let us in: its keys come with jobs only. `authorities`: PEM, or empty."""
    if not address.startswith(("http://", "https://")):
        if os.path.isdir(address) and os.access(address, os.W_OK | os.X_OK):
            return Check("store", "ok", f"{address} is there")
        fix = "mount it, and let the agent's user write to it (ReadWritePaths= in its unit)"
        return Check("store", "failed", f"{address} is not a directory that {_user()} may write to", fix)
    try:
        trusted = ssl.create_default_context(cadata=authorities or None)
        with urllib3.PoolManager(ssl_context=trusted, retries=False, timeout=TIMEOUT_S) as pool:
            status = pool.request("GET", address + "/", redirect=False).status
    except (urllib3.exceptions.SSLError, ssl.SSLError) as error:
        fix = "see the store's certificate, and who may sign it, at the endpoint in the console"
        return Check("store", "failed", f"{address}: {error}", fix)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Check("store", "failed", f"{address}: {error}", "open the way to it in the firewall, or see that the store runs")
    if status >= 500:
        return Check("store", "failed", f"{address} answers with status {status}", "see the store's own log")
    return Check("store", "ok", f"{address} answers")


def _capabilities() -> int:
    """Return the capabilities that count for this process, as the kernel's bits; root has all where there is no telling."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    except OSError:
        pass
    return -1 if getattr(os, "geteuid", lambda: -1)() == 0 else 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def _print(check: Check) -> None:
    print(f"{check.status:<7} {check.name:<16} {check.found}", flush=True)
    if check.status != "ok":
        print(f"{'':<7} {'':<16} → {check.fix}", flush=True)
