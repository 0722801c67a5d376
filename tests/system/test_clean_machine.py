"""The README's first command on a machine with nothing but Python and a network: the packages of `requirements.txt` must do.

The tests' own environment has more packages than that, and the programs of this machine, so both are kept away here.
"""

import subprocess
import sys
from pathlib import Path

from tests.system.checkout import clean_environment, copy_checkout

LIMIT_S = 600


def test_python_and_a_network_are_enough(tmp_path: Path) -> None:
    checkout, programs, source = tmp_path / "checkout", tmp_path / "bin", tmp_path / "source"
    copy_checkout(checkout)
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    # Left by a run that was interrupted while it made the environment.
    half_made = checkout / ".venv" / "bin"
    half_made.mkdir(parents=True)
    (half_made / "python").symlink_to(programs / "python3")
    source.mkdir()
    (source / "file").write_text("content")
    finished = subprocess.run(
        [str(checkout / "quickstart"), "--once", "--port", "0", "--source", str(source)],
        env=clean_environment() | {"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "identical:        yes" in finished.stdout
    assert (checkout / "state" / "store").is_dir()
