"""The report: complete, self-contained, and safe against what a config holds."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from diffjax.evals.base import Picture
from diffjax.launch.settings import ROOT, load_config
from diffjax.reports import figures
from diffjax.reports.run import write_report
from diffjax.reports.sweep import write_sweep_report
from diffjax.results import Result, protocol
from diffjax.runs import records
from diffjax.runs.config import plain
from diffjax.runs.records import read_json
from diffjax.sweeps.grid import Sweep, make_cells, run_grid, save_sweep
from diffjax.train.writer import Writer

CONFIG = plain(load_config("configs/ddpm/digits.py", ["seed=3", "train.steps=40"]))
CONFIG["features"]["config"] = "<script>alert('config')</script>"
CONFIG["task"] |= {"empty": {}, "list": [1, "<b>"]}
CONFIG["expected"] = {
    "generation/class_accuracy": [0.97, 1.0],
    "generation/frechet": [None, 1.0],
    "classifier/accuracy": [0.97, None],
}
HOW = {"nfe": 50, "features": "classifier:1234"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "digits"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    with Writer(path) as writer:
        for step in range(1, 41):
            loss = float("nan") if step == 7 else 1 / step
            scalars = {"seconds": step, "train/loss": loss, "train/grad_norm": 2.0}
            writer.scalars(step, scalars | {"train/images_per_second": 1234.0, "train/odd": step})
            if step % 10 == 0:
                n = 100 if step < 40 else 200
                for ema in ("slow", "fast"):
                    repeat = protocol(num_samples=100, seeds=[0, step], seed=step, **HOW)
                    records = [
                        Result("class_accuracy", 0.9 + step / 500, 0.01, repeat),
                        Result("frechet", 50 / step, None, protocol(num_samples=n, **HOW)),
                    ]
                    writer.evaluation(step, "generation", ema, records)
                image = np.full((10, 10, 3), step, np.uint8)
                caption = f"after <i>{step}</i> steps"
                writer.evaluation(step, "samples", "slow", [Picture("grid", image, caption)])
        writer.evaluation(40, "samples", "slow", [Picture("trajectory", image, "from noise")])
    return path


@pytest.fixture(scope="module")
def text(workdir):
    return write_report(workdir).read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


class Page(HTMLParser):
    """What a browser would see: tags, their attributes, and the text by tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text.append(data)

    def of(self, tag, css=None):
        return [a for t, a in self.tags if t == tag and (css is None or css in _classes(a))]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def _classes(attributes):
    return (attributes.get("class") or "").split()


def test_it_holds_cards_curves_pictures_values_and_the_whole_config(page):
    # Two curves, three other signals (images per second, odd; the NaN step is a gap), two measures.
    assert len([a for a in page.of("svg") if a.get("role") == "img"]) == 4 + 2
    labels = {a.get("aria-label") for a in page.of("svg")}
    assert {"loss by step", "grad norm by step", "frechet by step"} <= labels
    films = page.of("figure", "film")
    assert len(films) == 2 and len(page.of("input")) == 1 + 1  # one slider, one search
    steps = [a["data-step"] for a in page.of("img") if "data-step" in a]
    assert steps == ["10", "20", "30", "40"]
    for word in ("class_accuracy", "40", "channels", "24", "unet", "classifier:1234", "1,234"):
        assert word in page.words


def test_cards_say_what_was_expected_and_whether_it_was_met(page):
    states = [_classes(a)[1:] for a in page.of("div", "card")]
    assert states[:3] == [["met"], ["unmet"], ["missing"]]
    assert "expected 0.97 to 1" in page.words and "expected at most 1" in page.words
    assert "expected at least 0.97" in page.words and "not measured" in page.words


def test_values_of_different_protocols_are_marked_with_the_key_that_differs(page):
    assert "frechet †" in page.words
    odd = [a for a in page.of("dt") if "odd" in _classes(a)]
    assert len(odd) == 2  # the number of samples, in the rows of both averages


def test_a_repeat_with_other_seeds_is_of_the_same_protocol(page):
    assert "class_accuracy" in page.words and "class_accuracy †" not in page.words


def _sweep(workdir, **fields):
    """A sweep of one axis in `workdir`, its values under protocols with `fields` of the cell."""
    sweep = Sweep("steps", "runs/digits", {"eval.steps": [5, 10]}, (0, 1))
    cells = make_cells(sweep, "base")
    save_sweep(sweep, cells, workdir)

    def measure(cell):
        how = {name: value(cell) for name, value in fields.items()}
        yield Result("recall", 0.5, None, protocol(steps=cell.settings["eval.steps"], **how))

    run_grid(cells, measure, workdir)
    return Page(write_sweep_report(workdir).read_text()).words


def test_a_sweep_marks_another_protocol_and_no_repeat_with_other_seeds(tmp_path):
    repeats = _sweep(tmp_path / "repeats", seed=lambda c: c.seed, seeds=lambda c: [c.seed])
    assert "protocols differ" not in repeats
    assert "The protocol varies with the axes in steps." in repeats
    others = _sweep(tmp_path / "others", quantise=lambda c: ("round", "edm")[c.seed])
    assert "protocols differ" in others and "quantise is round or edm" in others


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"type": "digits", "split": "train"}, "on digits"),
        ({"type": "tfds", "name": "lsun_church", "split": "train"}, "on lsun_church"),
        ({"type": "folder", "path": "~/pictures/my_images"}, "on my_images"),
    ],
)
def test_the_subtitle_names_task_network_and_data(tmp_path, train, said):
    config = {**CONFIG, "data": {**CONFIG["data"], "train": train}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = write_report(tmp_path).read_text()
    assert f'<p class="subtitle">diffusion · unet · {said}</p>' in text


class Watched(dict):
    """A config that notes the dotted keys that are read of it by name."""

    def __init__(self, tree, seen, prefix=""):
        super().__init__(
            {k: Watched(v, seen, f"{prefix}{k}.") if isinstance(v, dict) else v
             for k, v in tree.items()}
        )  # fmt: skip
        self._seen, self._prefix = seen, prefix

    def _note(self, key):
        self._seen.add(f"{self._prefix}{key}")

    def get(self, key, default=None):
        self._note(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self._note(key)
        return super().__contains__(key)


def _keys(tree, prefix=""):
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _configs():
    """All keys of all configs that lie in `configs/`."""
    files = [p for p in (ROOT / "configs").rglob("*.py") if "def get_config" in p.read_text()]
    assert len(files) > 20
    return {key for p in files for key in _keys(plain(load_config(str(p))))}


def test_every_key_that_the_report_reads_of_a_config_is_one_that_configs_have(
    workdir, tmp_path, monkeypatch
):
    workdir, seen = shutil.copytree(workdir, tmp_path / "digits"), set()

    def watched(path, *args, **options):
        found = read_json(path, *args, **options)
        return Watched(found, seen) if path.name == "config.json" else found

    monkeypatch.setattr(records, "read_json", watched)
    write_report(workdir)
    read = {key for key in seen if not key.startswith("expected.")}  # those are the user's names
    assert {"data.train.type", "task.type", "model.type", "train.steps"} <= read
    assert read <= _configs()


def test_nothing_is_fetched_from_anywhere(page, text):
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_what_a_config_or_caption_holds_is_never_markup(page):
    assert len(page.of("script")) == 1 and not page.of("i")
    assert "<script>alert('config')</script>" in page.words
    assert "after <i>40</i> steps" in page.words and '[1, "<b>"]' in page.words


def test_ids_are_unique_and_every_reference_inside_the_page_resolves(page, text):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    assert used <= set(ids)


def test_sweeps_below_the_run_are_shown(workdir, tmp_path):
    workdir = shutil.copytree(workdir, tmp_path / "digits")
    sweep = Sweep("guidance <scale>", "runs/digits", {"eval.guidance": [1.0, 2.0]}, (0, 1))
    cells = make_cells(sweep, "base")
    save_sweep(sweep, cells, workdir / "sweeps" / "guidance")
    run_grid(cells, lambda cell: [Result("recall", 0.25 + cell.seed)], workdir / "sweeps/guidance")
    page = Page(write_report(workdir).read_text())
    assert "Sweep: guidance <scale>" in page.words
    assert len(page.of("table", "sortable")) == 1 and "0.8 ± 6.4" in page.words


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    page = Page(write_report(tmp_path).read_text())
    assert "The command was not recorded" in page.words


def test_the_report_of_the_same_record_is_the_same_file(workdir, text):
    assert write_report(workdir).read_text() == text


def test_a_folder_that_is_no_run_is_one_clear_line_and_exit_code_2(processes, tmp_path):
    done = processes.run(f"--workdir={tmp_path}", main="report")
    assert done.code == 2 and done.error.endswith("it holds no config.json")


def test_smoothing_starts_at_the_first_value_and_passes_over_gaps():
    values = np.array([4.0, np.nan, 4.0, 4.0])
    np.testing.assert_allclose(figures.smooth(values, 3), 4.0)
    assert figures.smooth(np.array([0.0, 1.0]), 3)[1] == pytest.approx(1 / 1.5)


def test_plots_escape_their_words_and_take_colours_from_the_page():
    svg = figures.line_plot([figures.Line("<a&b>", [1, 2], [3.0, 4.0])] * 2, 'x<"', "y")
    assert "<a&b>" not in svg and "&lt;a&amp;b&gt;" in svg
    assert "var(--s1)" in svg and "#0b0" not in svg
    assert Page(svg).of("svg")[0]["aria-label"] == 'y by x<"'


def test_a_plot_of_words_and_a_gap_still_draws():
    line = figures.Line("a", ["ddim", "ddpm"], [1.0, 2.0], [0.1, None])
    assert "ddpm" in figures.line_plot([line], "sampler", "frechet")
