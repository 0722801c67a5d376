"""Every decoder, ten minutes each, on what a fuzzer that watches its branches comes up with.

What was found is in a file that the output names.
"""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.fuzztargets import TARGETS

SECONDS = 600
TOP = Path(__file__).resolve().parents[2]


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_fails_in_no_words_but_its_own(name, tmp_path, record_property, soak_share):
    seconds = math.ceil(SECONDS * soak_share)
    command = [sys.executable, "-P", "-m", "tests.engine.fuzzing", name, str(tmp_path), "--seconds", str(seconds)]
    # In a process of its own, since the fuzzer ends the one it is in.
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    done = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    (executions,) = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    record_property("executions", int(executions))
    print(f"{name}: {executions} executions")
