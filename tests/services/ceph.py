"""A single-node Ceph RADOS Gateway of Debian's packages (ceph-mon, ceph-osd, radosgw), for one test session.

It runs without systemd and without authentication inside the cluster, on loopback ports, in a directory of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.ending import ending_with_us
from tests.services.ports import accepts, free_port, wait_until

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
OSD_BYTES = 10 << 30

CONFIG = """\
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = [v2:127.0.0.1:{mon_port}/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# The gateway alone would insist on a secure connection, which cannot be had without keys.
ms_mon_client_mode = crc secure
run_dir = {dir}
admin_socket = {dir}/$name.asok
crash_dir = {dir}
log_file = {dir}/$name.log
log_to_stderr = false
mon_cluster_log_file = {dir}/cluster.log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true

[mon]
mon_data = {dir}/mon
mon_data_avail_warn = 1
mon_data_avail_crit = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01

[osd]
osd_data = {dir}/osd
osd_journal = {dir}/osd/journal
osd_objectstore = bluestore
osd_crush_initial_weight = 1
bluestore_block_size = {osd_bytes}
bluestore_block_create = true
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
osd_op_num_shards = 2

[client.rgw]
rgw_data = {dir}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw_run_sync_thread = false
rgw_enable_usage_log = true
rgw_gc_obj_min_wait = 1

[client]
rgw_rados_pool_pg_num_min = 1
rgw_override_bucket_index_max_shards = 1
# Quotas are counted at once instead of after minutes in a cache.
rgw_bucket_quota_ttl = 0
rgw_bucket_quota_soft_threshold = 0
rgw_user_quota_bucket_sync_interval = 1
rgw_user_quota_sync_interval = 1
"""


def missing_programs() -> list[str]:
    """Return the names of Ceph's programs that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
CEPH_ENVIRONMENT = {**os.environ, "PATH": _PATH, "CEPH_ARGS": ""}


@dataclass(frozen=True, slots=True)
class CephGateway:
    """A running gateway. `url`: `http://127.0.0.1:port`."""

    url: str
    directory: Path

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def command(self) -> list[str]:
        """What starts the gateway, which Ceph's other daemons outlive."""
        return ["radosgw", "--conf", str(self.directory / "ceph.conf"), "-n", "client.rgw", "-f"]

    def admin(self, *arguments: str) -> str:
        """Run `radosgw-admin` and return what it prints."""
        command = ["radosgw-admin", "--conf", str(self.directory / "ceph.conf"), "-n", "client.rgw", *arguments]
        return subprocess.run(
            command, env=CEPH_ENVIRONMENT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout

    def ask(self, *words: str) -> str:
        """Give the running gateway a command of its admin socket and return the answer."""
        command = ["ceph", "--admin-daemon", str(self.directory / "client.rgw.asok"), *words]
        return subprocess.run(command, env=CEPH_ENVIRONMENT, check=True, capture_output=True, text=True).stdout

    def make_user(self, name: str, quota: int | None = None, display_name: str | None = None) -> tuple[str, str]:
        """Create a tenant and return its access and secret key. `quota`: bytes."""
        answer = self.admin("user", "create", "--uid", name, "--display-name", display_name or name)
        if quota is not None:
            self.admin("quota", "set", "--quota-scope", "user", "--uid", name, "--max-size", str(quota))
            self.admin("quota", "enable", "--quota-scope", "user", "--uid", name)
        key = json.loads(answer)["keys"][0]
        return key["access_key"], key["secret_key"]


@contextmanager
def ceph_gateway(is_started: bool = True) -> Iterator[CephGateway]:
    """Run a new, empty gateway for the length of the block; if not `is_started`, what it needs, for the caller to start it."""
    # Unix sockets live in it, whose paths must stay short.
    directory = Path(tempfile.mkdtemp(prefix="rgw-", dir="/tmp"))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        yield _start(directory, daemons, is_started)
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _start(directory: Path, daemons: list[subprocess.Popen[bytes]], is_started: bool) -> CephGateway:
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir()
    fsid, osd_uuid = str(uuid.uuid4()), str(uuid.uuid4())
    mon_port, rgw_port = free_port(), free_port()
    conf = directory / "ceph.conf"
    conf.write_text(CONFIG.format(dir=directory, fsid=fsid, mon_port=mon_port, rgw_port=rgw_port, osd_bytes=OSD_BYTES))

    def run(*command: str) -> None:
        with (directory / "setup.log").open("ab") as log:
            subprocess.run(command, env=CEPH_ENVIRONMENT, check=True, stdout=log, stderr=log, timeout=120)

    def launch(*command: str) -> None:
        log = (directory / f"{command[0]}.out").open("ab")
        daemons.append(
            subprocess.Popen(
                command, env=CEPH_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=ending_with_us()
            )
        )
        log.close()

    monmap = str(directory / "monmap")
    address = f"[v2:127.0.0.1:{mon_port}/0]"
    run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, monmap)
    run("ceph-mon", "--conf", str(conf), "--mkfs", "-i", "a", "--monmap", monmap)
    launch("ceph-mon", "--conf", str(conf), "-i", "a", "-f")
    run("ceph-osd", "--conf", str(conf), "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
    run("ceph", "--conf", str(conf), "--connect-timeout", "30", "osd", "new", osd_uuid)
    launch("ceph-osd", "--conf", str(conf), "-i", "0", "-f")
    gateway = CephGateway(f"http://127.0.0.1:{rgw_port}", directory)
    if is_started:
        launch(*gateway.command)
        wait_until(lambda: accepts(rgw_port), "the Ceph gateway", timeout_s=120)
    return gateway
