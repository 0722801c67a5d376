"""Fuzzing a decoder, by name, with inputs that atheris makes up while it watches the branches that they lead to.

    python -m tests.engine.fuzzing TARGET CORPUS [--seconds 600]      needs atheris (requirements-soak.txt)

CORPUS is a directory that keeps what led to new branches: another run goes on from it. The process ends with a status other than 0,
and the name of a file with the input, as soon as a target raises, takes 20 s, or 512 MB of memory.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["engine"]):
    from tests.engine.fuzztargets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    target = TARGETS[options.target]
    for number, seed in enumerate(target.seeds):
        (options.corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={options.seconds}", "-max_len=4096", "-rss_limit_mb=512", "-timeout=20"]
    # Most of what is decoded here is decoded in C, where no branches are seen: no seed is worth less than another.
    flags += ["-keep_seed=1", "-print_final_stats=1"]
    found = f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{options.target}-"
    atheris.Setup([sys.argv[0], *flags, found, str(options.corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
