"""Exclude patterns follow restic's rules; the cases are facts about restic's own filter."""

import json
from pathlib import Path

import pytest

from engine.filter import InvalidPattern, compile_patterns

CASES = json.loads((Path(__file__).parent / "data" / "filter-cases.json").read_text())


@pytest.mark.parametrize("case", [case for case in CASES["match"] if case["pattern"]], ids=str)
def test_one_pattern_matches_as_restic_says(case):
    path = case["path"].rstrip("/")
    assert compile_patterns([case["pattern"]]).matches(path.encode()) is case["match"]


@pytest.mark.parametrize("case", [case for case in CASES["child_match"] if case["pattern"]], ids=str)
def test_a_directory_is_entered_when_restic_would(case):
    assert compile_patterns([case["pattern"]]).may_match_below(case["path"].encode()) is case["match"]


@pytest.mark.parametrize("case", CASES["list"], ids=str)
def test_a_list_of_patterns_matches_as_restic_says(case):
    patterns = compile_patterns(case["patterns"])
    assert patterns.matches(case["path"].encode()) is case["match"]
    assert patterns.may_match_below(case["path"].encode()) is case["child_may_match"]


@pytest.mark.parametrize("case", CASES["invalid"], ids=str)
def test_a_malformed_pattern_or_an_empty_path_is_refused(case):
    with pytest.raises((InvalidPattern, ValueError)):
        compile_patterns(case["patterns"]).matches(case["path"].encode())


def test_an_empty_pattern_is_skipped():
    assert not compile_patterns(["", ""])
    assert not compile_patterns([""]).matches(b"/x")


def test_a_directory_whose_name_ends_in_a_line_break_is_not_entered_for_another():
    assert not compile_patterns(["/x/y"]).may_match_below(b"/x\n")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("caf?", "/x/café".encode(), True),
        ("x?y", b"/x\xffy", True),
        ("[a-c]*", b"/dir/beta", True),
        ("[^a-c]*", b"/beta", False),
        ("a\\*b", b"/a*b", True),
        ("a\\*b", b"/axb", False),
        ("[\\]x]", b"/]", True),
        ("*.tmp", b"/new\nline.tmp", True),
        ("/", b"/anything", True),
        ("a.c", b"/abc", False),
        ("a[+-9]b", b"/a/b", False),
        ("a[+-9]b", b"/a+b", True),
        ("a[\\--0]b", b"/a/b", False),
        ("a[^a]b", b"/a/b", False),
        ("x", b"/x\n", False),
        ("/x/*", b"/x/y\n", True),
        ("/x", b"/x\n/y", False),
        ("[z-a]", b"/z", False),
        ("[z-a]", b"/[z-a]", False),
        ("[z-ab]", b"/b", True),
        ("[^z-a]", b"/z", True),
        ("[a\\]-_]", b"/^", True),
    ],
)
def test_wildcards_match_characters_not_bytes_and_escapes_are_literal(pattern, path, matches):
    assert compile_patterns([pattern]).matches(path) is matches
