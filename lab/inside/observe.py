"""In the guest: capplan records a while and captures meanwhile, as a user would call it.

What they write is left as one JSON, ``/lab/found.json``: the files, and when the capture read the
machine and the recording began (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

LAB = Path("/lab")
OUT = LAB / "out"
RECORD_S = 75
CAPTURE_AFTER_S = 10.0
# the command, and on stdout when it began: imports take seconds here
COMMAND = (
    "import sys, time\n"
    "import capplan.sources.capture, capplan.sources.record, capplan.cli.capture\n"
    "import capplan.cli.record\n"
    "from capplan.cli.main import cli\n"
    "print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)\n"
    "cli(sys.argv[1:])\n"
)


def main() -> None:
    """Capture once for the page cache, then record, capturing meanwhile; leave what was found."""
    os.environ |= {"PYTHONPATH": str(LAB / "site"), "HOME": "/tmp", "LC_ALL": "C.UTF-8"}
    finish(start("capture", "--out", str(LAB / "warm")))
    options = ("--interval", "1s", "--duration", f"{RECORD_S}s", "--out", str(OUT / "record"))
    recording = start("record", *options)
    time.sleep(CAPTURE_AFTER_S)
    capture_s, _ = finish(start("capture", "--out", str(OUT / "capture")))
    record_s, said = finish(recording)
    files = {
        str(path.relative_to(OUT)): path.read_text(encoding="utf-8")
        for path in sorted(OUT.rglob("*"))
        if path.is_file()
    }
    found = {"capture_s": capture_s, "record_s": record_s, "said": said, "files": files}
    # ASCII, since the lab takes the file over in pieces
    (LAB / "found.json").write_text(json.dumps(found))


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a command of capplan."""
    pipe = subprocess.PIPE
    call = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.Popen(call, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Wait for a command: when it began [s], and what it said on stderr."""
    out, said = process.communicate()
    sys.stderr.write(out + said)
    if process.returncode:
        sys.exit(process.returncode)
    return float(out.split("\n", 1)[0]), said


if __name__ == "__main__":
    main()
