"""A part of the packs, or some by chance: as many and as deterministic as restic has it."""

import hashlib
import os
import shutil
import subprocess

import pytest

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.check import check
from engine.repository import Repository
from engine.subset import parse_subset
from tests.engine.conftest import PASSWORD

PACKS = {hashlib.sha256(bytes([number])).digest(): 100 + number for number in range(200)}


@pytest.mark.parametrize("parts", [1, 2, 7, 256])
def test_the_parts_make_up_all_packs_and_share_none(parts):
    chosen = [parse_subset(f"{number}/{parts}")(PACKS) for number in range(1, parts + 1)]
    assert sorted(pack for part in chosen for pack in part) == sorted(PACKS)
    assert [sorted(part) for part in chosen] == [sorted(parse_subset(f"{number}/{parts}")(PACKS)) for number in range(1, parts + 1)]


def test_a_pack_is_in_the_part_that_the_first_byte_of_its_id_says():
    pack = bytes([10]) + bytes(31)
    assert [number for number in range(1, 5) if parse_subset(f"{number}/4")({pack: 1})] == [3]


@pytest.mark.parametrize(
    ("text", "count"), [("100%", 200), ("50%", 100), ("2.5%", 5), ("0.6%", 1), ("0.0001%", 1), ("10K", 51), ("10k", 51), ("1b", 1)]
)
def test_a_share_is_as_many_packs_by_chance_and_one_at_least(text, count):
    choose = parse_subset(text)
    assert sum(PACKS.values()) == 39_900
    chosen = choose(PACKS)
    assert (len(chosen), len(set(chosen)), set(chosen) <= PACKS.keys()) == (count, count, True)


@pytest.mark.parametrize("text", ["1M", "1G", "1T"])
def test_a_size_beyond_that_of_the_repository_is_all_of_it(text):
    assert sorted(parse_subset(text)(PACKS)) == sorted(PACKS)


def test_the_choice_is_another_each_time():
    choose = parse_subset("50%")
    assert len({tuple(sorted(choose(PACKS))) for _ in range(5)}) == 5


@pytest.mark.parametrize("text", ["1/2", "50%", "1M"])
def test_of_no_packs_none_is_chosen(text):
    assert parse_subset(text)({}) == []


INVALID = ["", "5", "0/3", "4/3", "1/257", "1/2/3", "a/b", "-1/3", "1/", "0%", "101%", "-1%", "x%", "%", "nan%", "0M", "1.5M", "5P"]


@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_choice_is_refused(text):
    with pytest.raises(ValueError, match="is no p"):
        parse_subset(text)


@pytest.mark.restic
@pytest.mark.parametrize("text", [text for text in INVALID if text not in ("", "nan%")])
def test_restic_refuses_it_too(location, text):
    command = ["restic", "--no-cache", "-r", str(location), "check", f"--read-data-subset={text}"]
    done = subprocess.run(command, env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True)
    assert (done.returncode, "--read-data-subset" in done.stderr) == (1, True)


@pytest.fixture(scope="module")
def filled(empty_repository, tmp_path_factory):
    """A repository with six packs, one of which has a flipped bit: its place and the packs, the damaged one first."""
    place = tmp_path_factory.mktemp("filled")
    location = shutil.copytree(empty_repository, place / "repository")
    for number in range(3):
        (place / "file").write_bytes(os.urandom(2000))
        backup(Repository.open(open_store(str(location)), PASSWORD), [place / "file"], host=f"{number}")
    packs = sorted((location / "data").glob("*/*"), key=lambda path: -path.stat().st_size)
    packs[0].chmod(0o600)
    content = bytearray(packs[0].read_bytes())
    content[500] ^= 1
    packs[0].write_bytes(content)
    return location, packs


def opened(location):
    return Repository.open(open_store(str(location)), PASSWORD)


def test_a_check_reads_what_was_chosen_and_counts_it(filled):
    location, packs = filled
    wanted = [bytes.fromhex(pack.name) for pack in packs[:2]]
    report = check(opened(location), subset=lambda sizes: [pack for pack in sizes if pack in wanted])
    assert (report.packs, report.packs_read, report.bytes_read) == (6, 2, sum(pack.stat().st_size for pack in packs[:2]))
    assert [packs[0].name in problem for problem in report.problems] == [True]
    report = check(opened(location), subset=lambda sizes: [pack for pack in sizes if pack not in wanted])
    assert (report.packs_read, report.problems) == (4, [])


def test_the_command_reads_a_part_and_says_so(engine, filled, capfdbinary):
    location, packs = filled
    number = int(packs[0].name[:2], 16) % 5 + 1
    status, out, err = engine("-r", location, "check", "--read-data-subset", f"{number}/5")
    assert (status, packs[0].name in err.decode(), b"; read " in out) == (1, True, True)
    status, out, _ = engine("-r", location, "check", "--read-data-subset", f"{number % 5 + 1}/5")
    assert (status, b"no problems found; read " in out) == (0, True)
    for words in (["--read-data", "--read-data-subset", "1/5"], ["--read-data-subset", "6/5"]):
        with pytest.raises(SystemExit) as ended:
            engine("check", *words)
        assert (ended.value.code, b"--read-data-subset" in capfdbinary.readouterr().err) == (2, True)


@pytest.mark.restic
def test_restic_reads_the_same_part(filled):
    location, _ = filled
    for number in range(1, 4):
        command = ["restic", "--no-cache", "-r", str(location), "check", f"--read-data-subset={number}/3"]
        done = subprocess.run(command, env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True)
        report = check(opened(location), subset=parse_subset(f"{number}/3"))
        assert f"read group #{number} of {report.packs_read} data packs (out of total 6 packs in 3 groups" in done.stdout
        assert (done.returncode == 0) == (report.problems == [])
