"""What a cell of a study hands to its evaluator."""

import pytest

from diffjax.sweeps import study
from diffjax.sweeps.grid import Sweep, make_cells
from diffjax.sweeps.study import Cells, Study


class Evaluator:
    """Records nothing but how it was made."""

    def run(self, variables):
        return iter(())


@pytest.mark.parametrize(
    ("kind", "given"), [("generation", {"seeds": (3,)}), ("likelihood", {"seed": 3})]
)
def test_an_evaluator_gets_the_cells_seed_and_its_arguments(monkeypatch, tmp_path, kind, given):
    made = []

    def make(context, **section):
        made.append(section)
        return Evaluator()

    monkeypatch.setattr(study, "make_evaluator", make)
    monkeypatch.setattr(Cells, "_loaded", lambda self, changes, seed: (None, None))
    sweep = Sweep(name="s", run="runs/none", axes={"eval.steps": (7,)}, seeds=(3,))
    cells = Cells(Study(sweep, {"type": kind, "pred_kw": {"guidance": 2.0}}), tmp_path)
    (cell,) = make_cells(sweep, "base")
    assert list(cells.run(cell)) == []
    assert made == [{"type": kind, "pred_kw": {"guidance": 2.0, "steps": 7}, **given}]
