"""What the server may have a host run is what the host's administrator wrote down, and nothing else."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.allowed import ALLOWED_VARIABLE, USUAL_PATH, AllowedFileBroken, NotAllowed, allowed_names, load_allowed
from agent.doctor import check_allowed
from agent.sources import allowed_sources

Allow = Callable[[str], Path]

DUMPS = """
[[command]]
name = "dump-shop"
run = ["pg_dump", "shop"]

[[command]]
name = "dump"
run = ["/usr/bin/pg_dump", "--format={format}", "{database}"]
parameters = { database = ["shop", "crm"], format = "[a-z]+" }
environment = { PGPASSFILE = "/etc/pgpass" }
"""


def test_without_a_file_nothing_is_allowed_and_the_refusal_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_VARIABLE, str(tmp_path / "allowed.toml"))
    with pytest.raises(NotAllowed, match=f"does not allow the command “pg_dump”; .* add it to {tmp_path}/allowed.toml"):
        load_allowed().command(["pg_dump"], 1)
    assert allowed_names() == []
    assert check_allowed().status == "ok"


def test_a_name_stands_for_its_arguments_and_parameters_for_values_that_fit(allow: Allow) -> None:
    allow(DUMPS)
    allowed = load_allowed()
    shop = allowed.command(["dump-shop"], 60)
    assert (shop.arguments, shop.environment, shop.timeout_s) == (("pg_dump", "shop"), {"PATH": USUAL_PATH}, 60)
    crm = allowed.command(["dump", "format=custom", "database=crm"], 60)
    assert crm.arguments == ("/usr/bin/pg_dump", "--format=custom", "crm")
    assert crm.environment["PGPASSFILE"] == "/etc/pgpass"
    assert allowed_names() == ["dump", "dump-shop"]


@pytest.mark.parametrize(
    "words",
    [
        ["pg_dump", "shop"],
        ["dump-shop", "crm"],
        ["dump-shop", "database=crm"],
        ["dump"],
        ["dump", "database=crm"],
        ["dump", "database=other", "format=custom"],
        ["dump", "database=crm", "format=Custom"],
        ["dump", "database=crm", "format=a\nb"],
        ["dump", "database=crm", "database=shop", "format=a"],
        ["dump", "crm", "custom"],
    ],
)
def test_what_does_not_stand_there_is_refused(allow: Allow, words: list[str]) -> None:
    place = allow(DUMPS)
    with pytest.raises(NotAllowed) as raised:
        load_allowed().command(words, 1)
    assert str(place) in str(raised.value) or "needs a value of" in str(raised.value)


def test_a_value_is_never_an_option(allow: Allow) -> None:
    allow('[[command]]\nname = "dump"\nrun = ["pg_dump", "{database}"]\nparameters = { database = ".*" }')
    assert load_allowed().command(["dump", "database=shop"], 1).arguments == ("pg_dump", "shop")
    with pytest.raises(NotAllowed):
        load_allowed().command(["dump", "database=--file=/etc/passwd"], 1)


def test_a_file_that_others_may_change_does_not_count(allow: Allow, tmp_path: Path) -> None:
    place = allow(DUMPS)
    place.chmod(0o664)
    with pytest.raises(AllowedFileBroken, match=f"others may write to {place}: chmod go-w {place}"):
        load_allowed()
    assert allowed_names() == []
    assert check_allowed().status == "failed"
    place.chmod(0o644)
    tmp_path.chmod(0o777)
    with pytest.raises(AllowedFileBroken, match=f"others may write to {tmp_path}"):
        load_allowed()
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    load_allowed()


@pytest.mark.root
def test_a_file_of_another_user_does_not_count(allow: Allow) -> None:
    os.chown(allow(DUMPS), 1, 1)
    with pytest.raises(AllowedFileBroken, match="belongs to another user"):
        load_allowed()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[command]", "not as it must be"),
        ('[[command]]\nname = "x"\nrun = ["a"]\nparameter = {}', "unknown field"),
        ('[[command]]\nname = "x"\nrun = []', "a program and its arguments"),
        ('[[command]]\nname = "x y"\nrun = ["a"]', "is no name"),
        ('[[command]]\nname = "x"\nrun = ["a"]\n[[command]]\nname = "x"\nrun = ["b"]', "twice"),
        ('[[command]]\nname = "x"\nrun = ["a", "{b}"]', "the same parameters, and do not: b"),
        ('[[command]]\nname = "x"\nrun = ["a"]\nparameters = { b = "c" }', "the same parameters, and do not: b"),
        ('[[command]]\nname = "x"\nrun = ["{b}"]\nparameters = { b = "c" }', "without parameters"),
        ('[[command]]\nname = "x"\nrun = ["./a"]', "an absolute path"),
        ('[[command]]\nname = "x"\nrun = ["a{b}"]\nparameters = { b = "(" }', "without parameters"),
        ('[[command]]\nname = "x"\nrun = ["a", "{b}"]\nparameters = { b = "(" }', "cannot be read"),
        ('[[preset]]\nkind = "oracle"', "not as it must be"),
        ('[[preset]]\nkind = "postgresql"', "name the “databases”"),
        ('[[preset]]\nkind = "lvm"\nvolume = "data"', "a volume group and a volume"),
        ('[[preset]]\nkind = "zfs"\ndataset = "tank/data"\npaths = ["../etc"]', "relative to the snapshot"),
        ('[[preset]]\nkind = "redis"\nhost = "-x"', "no value of “host”"),
    ],
)
def test_a_file_that_makes_no_sense_does_not_count_and_says_where(allow: Allow, text: str, reason: str) -> None:
    place = allow(text)
    with pytest.raises(AllowedFileBroken, match=reason) as raised:
        load_allowed()
    assert str(place) in str(raised.value)


def test_one_command_that_is_not_allowed_refuses_all_of_a_job(allow: Allow) -> None:
    allow(DUMPS)
    stream = {"name": "/db.sql", "command": ["dump-shop"], "timeout_s": 1}
    assert len(allowed_sources({"streams": [stream]}).streams) == 1
    for hooks in ("before", "after", "on_success", "on_failure"):
        with pytest.raises(NotAllowed):
            allowed_sources({"streams": [stream], "hooks": {hooks: [{"command": ["reboot"], "timeout_s": 1}]}})
    with pytest.raises(NotAllowed, match="the preset “postgresql”"):
        allowed_sources({"presets": ["postgresql"]})


def test_the_doctor_tells_of_programs_that_are_not_there(allow: Allow) -> None:
    allow('[[command]]\nname = "x"\nrun = ["no-such-program"]\n[[command]]\nname = "y"\nrun = ["true"]')
    check = check_allowed()
    assert (check.status, check.found) == ("failed", "there is no no-such-program (x)")
