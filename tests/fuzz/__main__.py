"""Coverage-guided fuzzing of the readers in targets.py: `python -m tests.fuzz TARGET --seconds 60`.

It needs atheris, which is for CPython 3.11 and later on Linux: `pip install atheris==3.0.0`. What it learns is kept in
var/fuzz/TARGET, so that the next run goes on from there; a finding is written beside it and ends the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris==3.0.0 (CPython 3.11 and later, Linux)")

with atheris.instrument_imports(include=["gateway", "providers", "yaml", "python_multipart"]):
    from tests.fuzz.targets import SEED_BYTES_MAX, TARGETS

MEMORY_MIB_MAX = 2048


def main() -> None:
    """Fuzz one target for so long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    target = TARGETS[given.target]
    folder = Path("var") / "fuzz" / given.target
    (folder / "learnt").mkdir(parents=True, exist_ok=True)
    (folder / "seeds").mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / "seeds" / f"{number:03}").write_bytes(seed)
    options = [
        sys.argv[0],
        f"-max_total_time={given.seconds}",
        f"-max_len={SEED_BYTES_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        "-timeout=20",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        str(folder / "learnt"),
        str(folder / "seeds"),
    ]
    atheris.Setup(options, target.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
