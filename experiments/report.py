"""One self-contained `report.html`: `python -m experiments.report --workdir=runs/digits`."""

from __future__ import annotations

from absl import flags

from diffjax.launch.cli import run_main
from diffjax.launch.flag_types import define_path
from diffjax.reports.run import write_report


def define_flags() -> None:
    """The command line."""
    define_path("workdir", None, "The run or sweep to report on.", required=True)


def main() -> None:
    print(f"wrote {write_report(flags.FLAGS.workdir)}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
