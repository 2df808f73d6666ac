"""A mistake in an evaluation is one line before anything is trained, whatever room finds it."""

import pytest

from diffjax.assembly import stages
from diffjax.assembly.experiment import Experiment
from diffjax.assembly.stages import outline_features
from diffjax.launch.settings import load_config
from diffjax.sweeps import study
from diffjax.sweeps.grid import Sweep, make_cells
from experiments import train

TYPES = """
    config.evals.samples = dict(type="samples", pred_kw=dict(steps=2, sampler="ddim"), columns=1)
    config.evals.generation = dict(type="generation", num_samples=20, batch_size=20,
                                   pred_kw=dict(steps=2, sampler="ddim"))
    config.evals.likelihood = dict(type="likelihood", pred_kw=dict(steps=2), num_images=8)
    config.evals.trajectory = dict(type="trajectory", pred_kw=dict(steps=2, sampler="ddim"))
    config.features = dict(config="configs/classifier/digits.py")
    config.data.test = dict(type="digits", split="test")
    return config
"""


@pytest.fixture(scope="module")
def config(tiny, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("trial") / "evaluated.py"
    path.write_text(
        tiny.read_text() + "\nbase = get_config\ndef get_config(arg=None):\n"
        "    config = base(arg)\n" + TYPES
    )
    return str(path)


@pytest.fixture(scope="module")
def features(config, tmp_path_factory):
    """The classifier of digits, by shape."""
    return outline_features(Experiment(load_config(config), tmp_path_factory.mktemp("none")))


def test_a_config_without_a_mistake_passes_and_trains_nothing(config, tmp_path):
    experiment = Experiment(load_config(config), tmp_path / "run")
    experiment.check_evaluations(outline_features(experiment))
    assert not list(tmp_path.iterdir())


# (override, evaluator that is named, what is said)
WRONG = [
    ("evals.samples.batch_size=0", "samples", "batch_size=0 must be at least 1"),
    ("evals.generation.batch_size=-3", "generation", "batch_size=-3"),
    ("evals.likelihood.batch_size=0", "likelihood", "batch_size=0"),
    ("evals.likelihood.num_images=0", "likelihood", "num_images=0"),
    ("evals.likelihood.pred_kw.steps=-4", "likelihood", ""),
    ("evals.likelihood.pred_kw.variance=learned", "likelihood", "variance"),
    ("evals.likelihood.pred_kw.variance=none", "likelihood", ""),
    ("evals.samples.pred_kw.spacing=7", "samples", "spacing"),
    ("evals.samples.pred_kw.steps=0", "samples", "step"),
    ("evals.samples.pred_kw.guidance=much", "samples", ""),
    ("evals.samples.pred_kw.eta=(1,2,3)", "samples", ""),
    ("evals.samples.pred_kw.threshold=often", "samples", ""),
    ("evals.trajectory.pred_kw.which=both", "trajectory", "which"),
    ("evals.trajectory.pred_kw.sampler=ddmp", "trajectory", "did you mean 'ddpm'"),
    ("evals.generation.groups=1", "generation", "groups=1"),
    ("evals.generation.precision_k=30", "generation", "too few for precision_k=30"),
    ("evals.generation.seeds=(0,-1)", "generation", "seeds[1]=-1 must be at least 0"),
    ("evals.samples.seed=18446744073709551616", "samples", "seed=18446744073709551616"),
    ("evals.samples.pred=likelihood", "samples", "predict function"),
    ("evals.samples.pred=encode", "samples", "encode"),
]


@pytest.mark.parametrize(("change", "name", "said"), WRONG, ids=[w[0] for w in WRONG])
def test_a_mistake_names_its_evaluator(config, features, tmp_path, change, name, said):
    changed = load_config(config, [change])
    changed.evals = {name: changed.evals[name]}
    with pytest.raises(ValueError) as error:
        Experiment(changed, tmp_path).check_evaluations(features)
    assert str(error.value).startswith(f"evals.{name}") and said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cell_of_a_sweep_that_cannot_be_measured_is_not_trained(config, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "train", lambda *given: pytest.fail("trained"))
    sweep = Sweep("s", config, {"config.optim.lr": (0.1,)}, seeds=(2**40,))
    evaluator = {"type": "samples", "pred_kw": {"steps": 2}, "batch_size": 0}
    (cell,) = make_cells(sweep, "base")
    with pytest.raises(ValueError, match="batch_size=0"):
        list(study.Cells(study.Study(sweep, evaluator), tmp_path).run(cell))


@pytest.mark.heavy
def test_an_extractor_of_other_images_is_found_before_it_is_trained(config, tmp_path):
    """A classifier of 32 x 32 in colour, told to compare grey digits."""
    with pytest.raises(ValueError, match=r"generation: classifier_shapes.*\(8, 8, 1\)"):
        changed = load_config(config, ["features.config=configs/classifier/shapes.py"])
        experiment = Experiment(changed, tmp_path / "run")
        experiment.check_evaluations(outline_features(experiment))


def test_nothing_is_trained_before_the_trial(config, tmp_path, monkeypatch):
    for name in ("_train", "make_scorers", "train"):
        monkeypatch.setattr(stages, name, lambda *given: pytest.fail("trained"))
    with pytest.raises(ValueError, match="batch_size=0"):
        train.train_run(config, ["evals.samples.batch_size=0"], tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
