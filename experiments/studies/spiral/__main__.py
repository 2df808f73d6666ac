"""The two-dimensional study: `python -m experiments.studies.spiral [--workdir=runs/spiral]`.

Trains an MLP denoiser on two spiral arms, draws four figures, measures every claim, and writes
`results.json` and a self-contained `report.html`. See README.md beside this file.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from absl import flags

from diffjax.train.writer import replace_file
from experiments import page
from experiments.claims import cards, lines
from experiments.cli import overrides, run_main
from experiments.flag_types import define_path
from experiments.studies.spiral.claims import CLAIMS
from experiments.studies.spiral.measures import Walks, measure
from experiments.studies.spiral.pictures import CAPTIONS, draw_all
from experiments.studies.spiral.training import train_spiral

FLAGS = flags.FLAGS


def main() -> None:
    begun, workdir = time.monotonic(), Path(FLAGS.workdir)
    spiral, task, denoise = train_spiral(workdir, overrides())
    walks = Walks(denoise, task.model.schedule)
    results = measure(walks, spiral)
    replace_file(workdir / "results.json", json.dumps(results, indent=2).encode())
    files = draw_all(walks, spiral, workdir / "figures" / "spiral")
    report = page.render(
        "spiral.html",
        workdir / "report.html",
        title="Diffusion in two dimensions",
        cards=cards(CLAIMS, results),
        figures=[
            {"picture": page.picture(file, 1400), "caption": CAPTIONS[name]}
            for name, file in files.items()
        ],
        tables=results,
    )
    print("\n".join(lines(CLAIMS, results)))
    print(f"finished in {time.monotonic() - begun:.0f} s; report: {report}")


if __name__ == "__main__":
    define_path("workdir", "runs/spiral", "Folder of the run; made when missing.")
    run_main(main)
