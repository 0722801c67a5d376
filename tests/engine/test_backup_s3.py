"""A backup to a real object store is one that restic reads there."""

import os
import subprocess

import pytest

from engine.backends import Credentials, open_store
from engine.commands.backup import backup
from engine.compare import compare_trees
from engine.repository import Repository
from tests.engine.trees import write_every_kind


@pytest.mark.ceph
@pytest.mark.restic
@pytest.mark.root
def test_restic_checks_and_restores_from_the_object_store_what_we_backed_up(ceph_endpoint, tmp_path):
    access_key, secret_key = ceph_endpoint.make_user("engine-backup")
    location = f"s3:{ceph_endpoint.url}/engine-backup/host"
    store = open_store(location, credentials=Credentials(access_key, secret_key))
    repository = Repository.init(store, "secret")
    source = tmp_path / "source"
    write_every_kind(source)
    for number in range(300):
        (source / f"small-{number}").write_bytes(os.urandom(3000))

    first = backup(repository, [source], host="h")
    again = backup(repository, [source], host="h")

    assert (first.errors, again.files_unmodified) == (0, first.files_total)
    env = os.environ | {"RESTIC_PASSWORD": "secret", "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    restic = ["restic", "--no-cache", "-r", location]
    checked = subprocess.run([*restic, "check", "--read-data"], env=env, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    subprocess.run([*restic, "restore", first.snapshot_id, "--target", tmp_path / "restored"], env=env, check=True)
    found = compare_trees(os.fsencode(source), os.fsencode(f"{tmp_path}/restored{source}"))
    assert [line for line in found if "dangling" not in line] == []  # restic 0.14 cannot keep a target that is not UTF-8
