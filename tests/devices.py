"""Programs that run on eight devices, which a CPU pretends to have."""

import json
import subprocess
import sys
from pathlib import Path

import xla_flags
from processes import ROOT


def on_eight_devices(program: str, argument: object, *folders: Path) -> dict:
    """The JSON that `program` prints, given `argument` as JSON; it may import from `folders`."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(argument)],
        env={
            "PYTHONPATH": ":".join(map(str, (ROOT, *folders))),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {xla_flags.quick()}",
            "JAX_PLATFORMS": "cpu",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
