"""Papers' tables beside ours: the numbers, the page, the claims, and released models as runs."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from diffjax.data.sources import make_source
from diffjax.evals import EVALUATORS
from diffjax.evals.compare import METRICS
from diffjax.evals.features import FeatureExtractor
from diffjax.evals.reference import write_reference
from diffjax.metrics.frechet import moments
from diffjax.pretrained.released import from_pipeline
from diffjax.reports.sweep import write_claims, write_sweep_report
from diffjax.sweeps import study as study_module
from diffjax.sweeps.claims import Claim, cards, lines
from diffjax.sweeps.grid import AxisPlot, Choice, Sweep, TradeOff, make_cells, run_grid, save_sweep
from diffjax.sweeps.published import Published, table_of
from diffjax.sweeps.study import Study, load_study, with_run, with_weights
from diffjax.sweeps.table import read_table, to_csv, to_markdown
from experiments.sweep import changed, run_sweep
from tests.experiments.pipelines import pipeline

FORMS = {
    "sampler_steps": ("digits", "cifar10", "celeba64"),
    "guidance_scale": ("digits", "p_uncond", "imagenet64", "imagenet128"),
    "edm_sampler": ("digits", "rho", "cifar10"),
    "dit_guidance": ("digits", "imagenet256"),
}
STUDIES = [f"experiments/studies/{n}:{form}" for n, forms in FORMS.items() for form in forms]


def published(name, form=""):
    """Metric and name of a study's published numbers -> the numbers by their place."""
    study = load_study(f"experiments/studies/{name}{form and ':' + form}")
    return {(p.metric, p.name): p.values for p in study.sweep.published}


@pytest.mark.parametrize("path", STUDIES)
def test_every_form_is_a_study_whose_parts_fit(path):
    study = load_study(path)
    cells = make_cells(study.sweep, "base")
    assert len({c.id for c in cells}) == len(cells)
    section = dict(study.evaluator)
    known = EVALUATORS[section.pop("type")].__dataclass_fields__
    assert set(section) <= set(known)
    if study.features is not None:
        assert set(study.evaluator["metrics"]) <= set(METRICS)
        for p in study.sweep.published:  # the paper's own settings, so all of its numbers are met
            labels = [[getattr(v, "label", v) for v in study.sweep.axes[a]] for a in p.axes]
            assert all(v in known for key in p.values for v, known in zip(key, labels, strict=True))
    assert {p.metric for p in study.sweep.published} <= set(study.sweep.metrics)


@pytest.mark.parametrize("form", ["cifar10", "celeba64"])
def test_the_ddim_tables_own_laws(form):
    """Numbers that were typed wrongly would mostly break the order that the table is known for."""
    ((_, values),) = published("sampler_steps", form).items()
    rows, steps = ("0.0", "0.2", "0.5", "1.0"), (10, 20, 50, 100, 1000)
    table = np.array([[values[row, n] for n in steps] for row in (*rows, "fixedlarge")])
    assert np.all(np.diff(table, axis=1) < 0)  # more steps are better, in every row
    assert np.all(np.diff(table[:4], axis=0) > 0)  # noise costs, at every number of steps
    assert np.all(table[4, :4] > table[3, :4])  # the large variance most of all,
    assert table[4, 4] == table[:, 4].min()  # but for all thousand steps


def test_the_guidance_tables_own_laws():
    for name in ("ImageNet 64", "ImageNet 128"):
        tables = published("guidance_scale")
        score = list(tables["inception_score", name].values())
        fid = list(tables["frechet", name].values())
        least = int(np.argmin(fid))
        assert np.all(np.diff(score) > 0) and 0 < least < 4
        assert np.all(np.diff(fid[: least + 1]) < 0) and np.all(np.diff(fid[least:]) > 0)
    tables = {m: list(v.values()) for (m, _), v in published("dit_guidance", "imagenet256").items()}
    for metric, sign in dict(fid=-1, sfid=-1, inception_score=1, precision=1, recall=-1).items():
        assert np.all(sign * np.diff(tables[metric]) > 0)


SWEEP = Sweep(
    name="table",
    run="runs/none",
    axes={
        "eta": [Choice("0.0", {"eval.eta": 0.0}), Choice("1.0", {"eval.eta": 1.0})],
        "eval.steps": [10, 20],
    },
    seeds=(0, 1, 2),
    metrics=("frechet", "recall"),
    plots=(
        AxisPlot("frechet", "eval.steps", lines="eta"),
        TradeOff("recall", "frechet", along="eval.steps", lines="eta"),
    ),
    published=(
        table_of(
            "frechet", "CIFAR-10", "Song et al. 2021a", ("eta", "eval.steps"),
            {"0.0": (13.36, 6.84, 4.67), "1.0": (41.07, 18.36, 8.01)}, (10, 20, 50),
        ),
    ),
)  # fmt: skip


def measured(cell):
    class Value:
        name, std, protocol = "frechet", None, {}
        value = cell.settings["eval.eta"] + 10 / cell.settings["eval.steps"] + 0.01 * cell.seed

    yield Value


@pytest.fixture
def swept(tmp_path):
    cells = make_cells(SWEEP, "base")
    save_sweep(SWEEP, cells, tmp_path)
    run_grid(cells, measured, tmp_path)
    return tmp_path


def test_published_numbers_stand_beside_ours(swept):
    table = read_table(swept)
    head, _, *rows = to_markdown(table).splitlines()
    assert head == "| eta | steps | frechet | frechet, CIFAR-10 |"
    assert rows[0].startswith("| 0.0 | 10 | 1.01") and rows[0].endswith("| 13.36 |")
    assert rows[3].endswith("| 18.36 |") and "Song et al. 2021a" in to_markdown(table)
    (first, *_) = csv.DictReader(io.StringIO(to_csv(table)))
    assert first["frechet:published:CIFAR-10"] == "13.36"
    paper = table.as_published("CIFAR-10")
    assert paper.value("frechet", eta="1.0", steps=50) == 8.01  # a row that the sweep has not run


def test_the_page_has_both_tables_and_both_plots(swept):
    page = write_sweep_report(swept).read_text()
    assert "frechet by steps: as published, CIFAR-10" in page and "41.07" in page
    # Of the trade-off nothing is published, and recall was not measured.
    assert page.count("<svg") == 2


def test_a_sweep_of_an_older_version_has_nothing_published(swept):
    data = json.loads((swept / "sweep.json").read_text())
    del data["published"]
    (swept / "sweep.json").write_text(json.dumps(data))
    assert "published" not in write_sweep_report(swept).read_text()
    assert "CIFAR" not in to_markdown(read_table(swept))


def test_claims_say_what_holds_and_what_is_not_there(swept):
    def ratio(table):
        few, many = (table.value("frechet", eta="0.0", steps=n) for n in (10, 20))
        return few / many

    claims = (
        Claim("falls", ratio, 1.5, 2.5, "few over many"),
        Claim("rises", ratio, 0.0, 1.0, "few over many"),
        Claim("spreads", lambda t: t.value("recall", eta="0.0", steps=10), 0.0, 1.0, "recall"),
    )
    table = read_table(swept)
    assert [card["state"] for card in cards(claims, table)] == ["met", "unmet", "missing"]
    assert lines(claims, table)[0] == "ok  falls: 1.98 in [1.5, 2.5]"
    assert lines(claims, table)[2] == "NOT spreads: – in [0, 1]"
    assert write_claims(swept, claims) == lines(claims, table)
    page = write_sweep_report(swept).read_text()
    assert "✓ met" in page and "✗ not met" in page and "not measured" in page
    with pytest.raises(ValueError, match="no row at"):
        table.value("frechet", eta="0.5", steps=10)


def test_wrong_tables_and_forms_are_refused():
    with pytest.raises(ValueError, match=r"published CIFAR names the axis eval\.eta"):
        replace(SWEEP, published=(Published("CIFAR", "", "frechet", ("eval.eta",), {(0.0,): 1.0}),))
    with pytest.raises(ValueError, match="is no value of"):
        Published("CIFAR", "", "frechet", ("eta",), {("0.0", 10): 1.0})
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        load_study("experiments/studies/sampler_steps:cifar")
    with pytest.raises(ValueError, match="has one form"):
        load_study("experiments/studies/vae_beta:cifar10")


def test_what_released_weights_need_is_asked_for():
    study = load_study("experiments/studies/edm_sampler:cifar10")
    with pytest.raises(ValueError, match="give --set=reference=FILE"):
        with_weights(study, weights="w.pth")
    given = changed(study, ["reference=ref.npz"])
    with pytest.raises(ValueError, match="give --weights"):
        with_weights(given)
    full = with_weights(given, weights="w.pth", release="edm", codec=None)
    assert full.features is not None and full.features["weights"] == "w.pth"
    with pytest.raises(ValueError, match="--weights is read by studies in FID's features alone"):
        with_weights(load_study("experiments/studies/edm_sampler"), weights="w.pth")


class Means:
    """In InceptionV3's place: the means of rows and columns, and the first ten as logits."""

    def __init__(self, weights, protocol="pytorch_fid", quantise="round"):
        self.weights = weights

    def load(self, mesh=None):
        def apply(weights, image):
            x = image.mean(-1)
            rows = x.mean(1) * weights["gain"]
            return rows, rows, x.mean(2)

        return FeatureExtractor(apply, {"gain": np.float32(2)}, "means", channels=1)


@pytest.mark.heavy
def test_a_released_model_is_a_run_of_a_study(monkeypatch, tmp_path):
    """Without data and without a config: its weights, FID's network and a file of statistics."""
    monkeypatch.setattr(study_module, "FEATURES", {"inception": Means})
    model = from_pipeline(pipeline(num_classes=10))
    monkeypatch.setattr(study_module, "open_released", lambda *named: model)
    source = make_source("digits", split="test")
    images = np.stack([source[i]["image"] for i in range(60)])
    seen = Means("").load().pixels(list(images))
    assert seen.spatial is not None
    reference = tmp_path / "digits.npz"
    write_reference(reference, moments(seen.features), moments(seen.spatial), images)

    study = load_study("experiments/studies/dit_guidance:imagenet256")
    options = (f"reference={reference}", "num_samples=30", "batch_size=20",
               "pred_kw={'steps': 2}")  # fmt: skip
    study = with_run(changed(study, list(options)), str(tmp_path / "model"))
    study = with_weights(study, weights="given")
    study = replace(study, sweep=replace(study.sweep, axes={"eval.guidance": (1.0, 1.5)}))
    outcome = run_sweep(study, tmp_path / "swept")
    assert not outcome.failed
    table = read_table(tmp_path / "swept")
    assert table.metrics == ["fid", "sfid", "inception_score", "precision", "recall"]
    assert all(v is not None and np.isfinite(v.value) for v in table.rows[0].summaries.values())
    text = to_markdown(table)
    assert "fid, ImageNet 256" in text and "9.620" in text and "278.2" in text
    cell = json.loads(next((tmp_path / "swept" / "cells").glob("*.json")).read_text())
    how = cell["values"]["fid"]["protocol"]
    # The folder's own scheduler, but for what the study says.
    assert (how["sampler"], how["steps"], how["num_samples"]) == ("ddim", 2, 30)
    assert table.value("fid", guidance=1.0) != table.value("fid", guidance=1.5)


def test_a_study_without_a_run_trains_its_config_once(monkeypatch, tmp_path):
    named_runs = []

    def complete(config, workdir, named, sections):
        named_runs.append(dict(config["study"]))
        raise FileNotFoundError

    monkeypatch.setattr(study_module, "complete", complete)
    run = str(tmp_path / "run")
    sweep = Sweep(name="s", run=run, axes={"eval.steps": (7,)})
    cells = study_module.Cells(Study(sweep, config="configs/ddpm/digits.py"), tmp_path)
    with pytest.raises(FileNotFoundError):
        _ = cells.base
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        _ = cells.base
    assert named_runs == [{"run": run, "config": "configs/ddpm/digits.py"}, {"run": run}]
