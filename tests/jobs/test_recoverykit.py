"""The recovery kit alone is enough: openssl and restic restore with its commands, and the server is rebuilt from it."""

import html
import itertools
import json
import os
import pty
import re
import subprocess
import threading
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from agent.child import _Out, run
from clients.models import Client
from engine.backends import open_store
from engine.commands.backup import backup
from engine.compare import compare_trees
from engine.repository import Repository as EngineRepository
from jobs.models import BackupPlan
from jobs.planning import create_plan, delete_plan
from jobs.recovery import request_recovery
from jobs.recoverykit import tell_outdated_kit
from jobs.specification import job_specification
from records.models import BackupRecord, Event
from storage.models import Endpoint, Repository, Tenant
from storage.sealing import CannotOpen, seal, unseal
from storage.tenants import add_tenant
from tests.factories import START, make_client, make_plan

PASSPHRASE = "twelve letters $and more"
_numbers = itertools.count()


@pytest.fixture
def source(tmp_path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_bytes(os.urandom(200_000))
    (directory / "link").symlink_to("file")
    return directory


@pytest.fixture
def passphrase(tmp_path) -> str:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    return str(path)


@pytest.fixture
def kit(tmp_path, passphrase):
    """Return a function that writes the kit and returns its path."""

    def write() -> Path:
        path = tmp_path / "elsewhere" / "kit.html"
        path.parent.mkdir(exist_ok=True)
        call_command("recoverykit", "--output", str(path), "--passphrase-file", passphrase, stdout=StringIO())
        return path

    return write


def save(plan: BackupPlan, source: Path) -> None:
    row = plan.repository
    repository = EngineRepository.open(open_store(row.location, credentials=row.tenant.credentials), row.password)
    backup(repository, [str(source)], host=plan.client.hostname, tags=[f"plan-{plan.uuid}"])


def commands(page: str, kind: str) -> list[str]:
    """Return the commands of each block of a kind on the page, as somebody would copy them from a browser."""
    return [html.unescape(block) for block in re.findall(rf'<pre class="{kind}">\n(.*?)</pre>', page, re.DOTALL)]


def run_typing(script: str, answer: str, directory: Path) -> None:
    """Run the script at a terminal, where what asks for a password is answered."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.execvp("bash", ["bash", "-ec", script])
    said = b""
    try:
        while piece := os.read(terminal, 1000):
            said += piece
            if said.count(b"password:") and answer:
                os.write(terminal, answer.encode() + b"\n")
                answer = ""
    except OSError:
        pass  # that is how a terminal ends
    _pid, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said.decode()


def restores_alone(path: Path, source: Path) -> None:
    page = path.read_text()
    directory = path.parent
    run_typing(commands(page, "open")[0], PASSPHRASE, directory)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "AWS_"))}
    for number, block in enumerate(commands(page, "repository")[: len(commands(page, "repository")) // 2], 1):
        done = subprocess.run(["bash", "-ec", block], cwd=directory / "kit", env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert compare_trees(os.fsencode(source), os.fsencode(f"{directory}/kit/restored-{number}{source}")) == []


@pytest.mark.restic
def test_the_kit_and_restic_restore_from_directories(db, tmp_path, source, kit) -> None:
    for number in range(2):
        save(make_plan(tmp_path / "store", bucket=f"b{number}"), source)
    restores_alone(kit(), source)


@pytest.mark.ceph
@pytest.mark.restic
@pytest.mark.django_db(transaction=True)
def test_the_kit_and_restic_restore_from_ceph(tmp_path, source, kit, ceph_endpoint) -> None:
    number = next(_numbers)
    endpoint = Endpoint.objects.create(address=ceph_endpoint.address, https=False, type=0)
    tenant = add_tenant(endpoint, *ceph_endpoint.make_user(f"recoverykit{number}-{os.getpid()}"))
    plan = create_plan(
        client=make_client(), tenant=tenant, bucket=f"kit-{os.getpid()}-{number}", backup_name="p", start_time=START,
        cron_expression="0 0 3 * * ?", backup_data=json.dumps({"include": ["etc"]}),
    )  # fmt: skip
    save(plan, source)
    restores_alone(kit(), source)


def test_no_secret_stands_outside_of_the_sealed_part(db, tmp_path, kit) -> None:
    row = make_plan(tmp_path / "store").repository
    path = kit()
    page = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert row.location in page
    assert row.password not in page
    assert "Recovery kit of Backup Center" in page
    assert "恢复套件" in page


def test_openssl_and_we_open_what_the_other_sealed(tmp_path, passphrase) -> None:
    options = ["-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-md", "sha256", "-a", "-pass", f"file:{passphrase}"]
    for content in (b"", b"x" * 16, os.urandom(1000)):
        done = subprocess.run(
            ["openssl", "enc", "-d", *options], input=seal(content, PASSPHRASE).encode() + b"\n", capture_output=True, check=True
        )
        assert done.stdout == content
        sealed = subprocess.run(["openssl", "enc", "-e", *options], input=content, capture_output=True, check=True).stdout
        assert unseal(sealed.decode(), PASSPHRASE) == content
    with pytest.raises(CannotOpen):
        unseal("no base64!", PASSPHRASE)


def test_a_kit_is_verified_by_opening_what_it_is_for(db, tmp_path, kit, passphrase) -> None:
    plan = make_plan(tmp_path / "store")
    path = kit()

    def verify(secret: str = passphrase) -> str:
        out = StringIO()
        call_command("recoverykit", "--verify", str(path), "--passphrase-file", secret, stdout=out)
        return out.getvalue()

    assert f"{plan.repository.location}: opens" in verify()
    wrong = tmp_path / "wrong"
    wrong.write_text("another passphrase")
    with pytest.raises(CommandError, match="does not open"):
        verify(str(wrong))
    make_plan(tmp_path / "store", bucket="younger")
    with pytest.raises(CommandError, match="does not open every repository"):
        verify()
    path.write_text(path.read_text().replace("-----BEGIN", "-----begin"))
    with pytest.raises(CommandError, match="no sealed part"):
        verify()


def test_a_kit_that_is_out_of_date_is_told_once(db, tmp_path, kit) -> None:
    make_plan(tmp_path / "store")
    assert not tell_outdated_kit(), "nobody has made one"
    kit()
    assert not tell_outdated_kit()
    make_plan(tmp_path / "store", bucket="younger")
    assert tell_outdated_kit()
    assert not tell_outdated_kit()
    assert "recoverykit --output" in Event.objects.get(level=Event.Level.WARNING).message
    kit()
    assert not tell_outdated_kit()


def test_a_short_passphrase_is_refused(db, tmp_path) -> None:
    short = tmp_path / "short"
    short.write_text("short")
    with pytest.raises(CommandError, match="at least 12"):
        call_command("recoverykit", "--output", str(tmp_path / "kit.html"), "--passphrase-file", str(short))
    assert not (tmp_path / "kit.html").exists()


def test_the_server_is_rebuilt_from_its_kit_and_the_stores(api, db, tmp_path, source, kit, passphrase) -> None:
    make_client(hostname="deleted").delete()
    plans = [make_plan(tmp_path / "store", keep={"last": 3}), make_plan(tmp_path / "store", hold_type=1, hold_time=7)]
    for plan in plans:
        save(plan, source)
        save(plan, source)
    path = kit()
    passwords = set(Repository.objects.values_list("bucket", "prefix", "repository_id"))
    for plan in plans:
        delete_plan(plan)
    for model in (BackupRecord, Repository, Tenant, Endpoint, Client):
        model.objects.all().delete()
    out = StringIO()
    call_command("rebuild", "--kit", str(path), "--passphrase-file", passphrase, stdout=out)
    assert "2 repositories, 2 clients, 2 plans (paused)" in out.getvalue()
    assert set(Repository.objects.values_list("bucket", "prefix", "repository_id")) == passwords
    for plan in plans:
        again = BackupPlan.objects.get(uuid=plan.uuid)
        names = ("backup_name", "cron_expression", "backup_data", "hold_type", "hold_time", "keep", "start_time", "client_id")
        assert {name: getattr(again, name) for name in names} == {name: getattr(plan, name) for name in names}
        assert (again.paused, again.next_fire_at) == (True, None)
        records = BackupRecord.objects.filter(plan_uuid=plan.uuid, client=again.client, plan_name=plan.backup_name)
        assert records.count() == 2
    assert make_client().pk not in {plan.client_id for plan in plans}
    record = BackupRecord.objects.latest("pk")
    listed = api("viewer").get(f"/api/record/backup/{record.pk}/files", {"path": str(source)})
    assert [entry["name"] for entry in listed.json()["files"]] == ["file", "link"]
    recovery = request_recovery(record.client, record, json.dumps({"destination": str(tmp_path / "back")}))
    result = run({**job_specification(recovery), "derived_keys": {}}, _Out(), threading.Event())
    assert result["errors"] == 0
    assert compare_trees(os.fsencode(source), os.fsencode(f"{tmp_path}/back{source}")) == []
    call_command("rebuild", "--kit", str(path), "--passphrase-file", passphrase, stdout=out)
    assert "0 repositories, 0 clients, 0 plans" in out.getvalue()
    assert BackupRecord.objects.count() == 4
