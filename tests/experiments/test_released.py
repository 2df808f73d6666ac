"""Released models through `experiments.evaluate`: what is drawn, scored, recorded and refused."""

import json

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from PIL import Image

from diffjax.assembly.released_run import ReleasedRun
from diffjax.interop.inception import inception_shapes, save_inception
from diffjax.interop.pipelines import Pipeline, save_pipeline
from diffjax.launch.settings import load_config
from diffjax.pretrained.released import from_pipeline, open_released
from tests.experiments.pipelines import pipeline

CONFIG = """
from configs.ddpm import digits


def get_config(arg=None):
    config = digits.get_config()
    config.conditions = {}
    config.evals = dict(
        samples=dict(type="samples", pred_kw=dict(sampler="heun", guidance=9.0), columns=2),
        generation=dict(
            type="generation", ema="slow", every=160, num_samples=20, batch_size=10, groups=4,
            pred_kw=dict(steps=7),
        ),
    )
    config.features.overrides = ("train.steps=4", "train.log_every=2", "train.batch_size=16")
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("released")
    save_pipeline(at, pipeline())
    return at


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "digits.py"
    path.write_text(CONFIG)
    return path


@pytest.mark.heavy
def test_a_released_model_is_drawn_from_scored_and_recorded(processes, folder, config, tmp_path):
    workdir = tmp_path / "evaluated"
    command = (f"--model={folder}", f"--config={config}", f"--workdir={workdir}", "--set=steps=3")
    outcome = processes.run(*command, main="evaluate")
    assert outcome.code == 0, outcome.stderr
    assert f"{folder}: (8, 8, 1) by ddim · 3 steps" in outcome.stdout
    assert "generation: frechet" in outcome.stdout and (workdir / "report.html").exists()
    lines = [json.loads(line) for line in (workdir / "evals.jsonl").read_text().splitlines()]
    how = next(line["protocol"] for line in lines if line["name"] == "frechet")
    # The folder's scheduler and the command line, not the config's options or averages.
    assert (how["sampler"], how["steps"], how["nfe"], how["clip"]) == ("ddim", 3, 3, True)
    assert how["num_samples"] == 20 and {line["ema"] for line in lines} == {None}
    assert list((workdir / "figures" / "samples").glob("*.png"))
    kept = next((workdir / "samples").glob("*.npz"))
    recorded = json.loads((workdir / "config.json").read_text())
    assert recorded["released"]["model"] == str(folder)

    model = open_released(folder)
    index = np.arange(20, dtype=np.int32)
    drawn = model.predict_fns()["sample"](model.variables, np.int32(0), index, steps=3)
    with np.load(kept) as arrays:
        np.testing.assert_allclose(arrays["image"], drawn, atol=1e-4)

    other = processes.run(
        f"--model={folder.parent}/other", *command[1:], "--release=dit", main="evaluate"
    )
    assert other.code == 2 and "other" in other.error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --run (a workdir) and --model"),
        (("--run=a", "--set=steps=3"), "--set is not read with --run"),
        (("--model=a", "--step=3"), "--step is not read with --model"),
        (("--model=a",), "--model needs --config and --workdir"),
        (("--model=a/b/c", "--config=configs/ddpm/digits.py", "--workdir=w"), "no such file"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, processes):
    outcome = processes.run(*arguments, main="evaluate")
    assert outcome.code == 2 and said in outcome.error


def test_data_of_another_size_or_other_classes(config, tmp_path):
    loaded = load_config(str(config))
    fewer = from_pipeline(pipeline(num_classes=7, null_class=False))
    with pytest.raises(ValueError, match="10 classes"):
        ReleasedRun(loaded, tmp_path, fewer, {}, {})
    larger = pipeline()
    larger = Pipeline(
        larger.network._replace(facts={"sample_size": 16}), larger.sampling, larger.steps
    )
    with pytest.raises(ValueError, match=r"draws images \(16, 16, 1\), but those of digits are"):
        ReleasedRun(loaded, tmp_path, from_pipeline(larger), {}, {})


def test_recipes_are_the_models_own_but_for_what_is_said():
    model = from_pipeline(pipeline())
    assert model.full({}) == {**model.recipe}
    assert model.full({"eta": 1.0})["eta"] == 1.0
    other = model.full({"sampler": "heun", "spacing": "karras"})
    assert other == {"sampler": "heun", "spacing": "karras", "steps": 50, "clip": True}
    assert model.nfe(sampler="heun", steps=4)["nfe"] == 7
    assert len(model.noise_levels(steps=4)) == 5
    with pytest.raises(ValueError, match="guidance needs a conditional model"):
        model.nfe(guidance=2.0)


def test_what_a_file_does_not_say_is_asked_for(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"PK")
    with pytest.raises(ValueError, match="say which release"):
        open_released(file)
    with pytest.raises(ValueError, match="a DiT, and these need one"):
        open_released(file, "dit")
    with pytest.raises(ValueError, match="a codec is of what draws latents"):
        open_released(file, "edm", codec=tmp_path)
    with pytest.raises(ValueError, match="did you mean 'adm_64'"):
        open_released(file, "adm64")
    with pytest.raises(ValueError, match="leave the release out"):
        open_released(tmp_path, "edm")
    with pytest.raises(ValueError, match="cannot be read as a torch archive"):
        open_released(file, "adm_64")


def test_networks_that_are_shown_another_image_are_refused():
    found = pipeline(out_channels=3)
    with pytest.raises(ValueError, match="takes 1 channels and gives 3"):
        from_pipeline(found)
    with pytest.raises(ValueError, match="sample_size"):
        from_pipeline(Pipeline(found.network._replace(section={**found.network.section,
                      "out_channels": 1}, facts={}), found.sampling, 50))  # fmt: skip


CIFAR = """
from configs.released import cifar10


def get_config(arg=None):
    config = cifar10.get_config()
    config.data.train = dict(type="folder", path="@/train", size=32)
    config.data.test = dict(type="folder", path="@/test", size=32)
    config.evals.generation.update(num_samples=12, batch_size=6)
    config.train.batch_size = 4
    return config
"""


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """FID's network with random weights, as a file."""
    rng = np.random.default_rng(0)
    flat = {
        path: np.ones(s.shape, np.float32)
        if path.endswith(("scale", "var"))
        else rng.normal(0, np.prod(s.shape[:-1]) ** -0.5, s.shape).astype(np.float32)
        for path, s in inception_shapes().items()
    }
    file = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_inception(file, unflatten_dict(flat, sep="/"))
    return file


@pytest.mark.heavy
def test_the_cifar10_path_from_weights_to_numbers(inception, processes, tmp_path):
    """A folder of a released model and a file of FID's network, both random: one command."""
    save_pipeline(tmp_path / "model", pipeline(32, 3))
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{i}.png")
    (tmp_path / "small.py").write_text(CIFAR.replace("@", str(tmp_path)))
    outcome = processes.run(
        f"--model={tmp_path / 'model'}", f"--config={tmp_path / 'small.py'}", "--set=steps=2",
        f"--workdir={tmp_path / 'run'}", f"--config.features.weights={inception}",
        main="evaluate",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    lines = (tmp_path / "run" / "evals.jsonl").read_text().splitlines()
    found = {line["name"]: line for line in map(json.loads, lines)}
    assert {"frechet", "frechet_spatial", "inception_score", "precision", "recall"} <= set(found)
    how = found["frechet"]["protocol"]
    assert (how["resize"], how["width"], how["num_samples"]) == ("tensorflow 299", 2048, 12)
    assert all(np.isfinite(line["value"]) for line in found.values())
