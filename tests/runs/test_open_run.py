"""A run opens itself: from its workdir alone, one average at a time, and nothing damaged."""

import copy
import json
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from diffjax.assembly import experiment as assemble
from diffjax.runs import open_run
from diffjax.runs import resolved as records
from diffjax.train import weights
from experiments.train import train_run

SHORT = ["train.steps=4", "train.checkpoint_every=2", "train.log_every=2", "train.batch_size=4"]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """A finished run of four steps."""
    workdir = tmp_path_factory.mktemp("opened") / "run"
    train_run(str(tiny), SHORT, workdir)
    return workdir


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it elsewhere."""
    return Path(shutil.copytree(trained, tmp_path / "elsewhere"))


def same(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def refused(workdir: Path, **given) -> str:
    """The one line by which a run is not opened."""
    with pytest.raises(ValueError) as error:
        open_run(workdir, **given)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("ema", [None, "slow", "fast"])
def test_what_is_opened_is_what_was_trained(trained, run, ema):
    _, state, frozen = assemble.open_run(trained).trained()
    opened = open_run(run, ema=ema)
    same(opened.variables, state.variables(frozen, ema))
    assert (opened.step, opened.ema, opened.kind) == (4, ema, "diffusion")
    assert opened.class_names == tuple("0123456789") and opened.image_shape == (8, 8, 1)
    assert opened.config["train"]["steps"] == 4 and opened.tokenizer is None


def test_an_earlier_step_is_opened(run):
    opened = open_run(run, step=2)
    assert opened.step == 2
    with pytest.raises(AssertionError):
        same(opened.variables.params, open_run(run).variables.params)


def test_it_draws_what_the_assembled_run_draws(trained, run):
    experiment = assemble.open_run(trained)
    _, state, frozen = experiment.trained()
    opened = open_run(run, ema="slow")
    index = np.arange(3, dtype=np.int32)
    one, other = (
        task.predict_fns()["sample"](held, np.int32(3), index, index, sampler="ddim", steps=2)
        for task, held in (
            (experiment.task, state.variables(frozen, "slow")),
            (opened.task, opened.variables),
        )
    )
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_one_average_is_read_and_no_slot_of_the_optimizer(run, monkeypatch):
    items, made = [], weights.ocp_args.PyTreeRestore
    monkeypatch.setattr(
        weights.ocp_args, "PyTreeRestore", lambda **kw: items.append(kw["item"]) or made(**kw)
    )
    open_run(run, ema="slow")
    open_run(run)
    assert items[0].keys() == {"step", "model_state", "ema"} and items[0]["ema"].keys() == {"slow"}
    assert items[1].keys() == {"step", "model_state", "params"}


def test_neither_data_nor_configs_are_looked_for(run, monkeypatch):
    def no(*_, **__):
        pytest.fail("opened more than the workdir")

    for name in ("make_source", "Loader", "Experiment"):
        monkeypatch.setattr(assemble, name, no)
    monkeypatch.setattr("diffjax.launch.settings.load_config", no)
    config = json.loads((run / "config.json").read_text())
    config["data"]["train"] = {"type": "folder", "path": "/gone"}
    config["features"] = {"config": "/gone/plant.py"}
    (run / "config.json").write_text(json.dumps(config))
    assert open_run(run).step == 4


def test_what_is_not_there_is_said_in_one_line(run, tmp_path):
    assert "holds no run" in refused(tmp_path / "nowhere")
    assert "kept: fast, slow" in refused(run, ema="slwo")
    assert "no checkpoint of step 3; it holds 2, 4" in refused(run, step=3)
    shutil.rmtree(run / "checkpoints")
    assert "holds no checkpoint: train it first" in refused(run)
    (run / records.FILE).unlink()
    assert f"experiments.evaluate --run={run}` writes it" in refused(run)


def test_a_damaged_checkpoint_is_passed_over_and_not_touched(run):
    victim = next(p for p in sorted((run / "checkpoints" / "4").rglob("d/*")) if p.is_file())
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    assert open_run(run).step == 2
    assert victim.exists() and not (run / "unreadable").exists()
    assert "is not as it was saved" in refused(run, step=4)


def test_weights_of_another_network_are_named(run):
    change(run, lambda content: content["model"].update(width=32))
    said = refused(run)
    assert "it is another network's" in said and "params/" in said and str(run) in said
    change(run, lambda content: content["model"].update(width=16, depth=2))
    assert "block_1" in refused(run) and "not in the checkpoint" in refused(run)

    def unconditional(content) -> None:
        content["model"].update(depth=1, num_classes=0)
        content["pieces"]["conditions"] = {}

    change(run, unconditional)
    assert "in the checkpoint and not in the network as it was built" in refused(run)


def change(run: Path, edit) -> None:
    """Edits `resolved.json` as a stranger would, with the digest that then belongs to it."""
    file = run / records.FILE
    content = json.loads(file.read_text())
    del content["sha256"]
    version = content.pop("format")
    edit(content)
    stamped = {"format": version, **content, "sha256": records._digest(content)}
    file.write_text(json.dumps(stamped))


def test_a_record_that_is_not_as_it_was_written_is_found(run):
    file = run / records.FILE
    good = file.read_text()
    for text, said in (
        (good.replace('"width": 16', '"width": 17'), "is not as it was written"),
        (good[: len(good) // 2], "is not JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        (good.replace('"format": 1', '"format": 2'), "format 2; this version reads 1"),
        (good.replace('"format": 1', '"format": [[]]'), "is of format"),
    ):
        file.write_text(text)
        assert said in refused(run)


VALUES = (None, -1, 0, 10**40, 1e308, float("nan"), True, "x", "", [], {}, [[1]], {"type": "x"})


def leaves(tree, path=()):
    """Paths of everything inside."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def put(tree, path, value, drop=False) -> None:
    *parents, last = path
    for key in parents:
        tree = tree[key]
    if drop:
        del tree[last]
    else:
        tree[last] = value


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.heavy)])
def test_no_record_however_absurd_is_more_than_one_line(run, seed):
    """Each key taken out or given another value: the run opens as it was, or one line says why."""
    drawn = random.Random(seed)
    file = run / records.FILE
    good, expected = file.read_text(), open_run(run).variables
    content = {k: v for k, v in json.loads(good).items() if k not in ("format", "sha256")}
    places = [p for p in leaves(content) if p[:2] != ("class_names", 3)]
    cases = [(p, v, False) for p in places for v in VALUES] + [(p, None, True) for p in places]
    opened = 0
    for path, value, drop in drawn.sample(cases, 120):
        file.write_text(good)
        change(run, lambda c, p=path, v=value, d=drop: put(c, p, copy.deepcopy(v), d))
        try:
            same(open_run(run).variables, expected)
            opened += 1
        except ValueError as error:
            assert "\n" not in str(error), (path, value)
            assert str(run) in str(error), (path, value, error)
    assert 0 < opened < 60


def test_a_run_that_goes_on_keeps_its_record_and_one_without_gets_it(tiny, run):
    record = run / records.FILE
    before = record.read_bytes()
    train_run(str(tiny), SHORT, run)
    assert record.read_bytes() == before
    record.unlink()
    train_run(str(tiny), SHORT, run)
    assert record.read_bytes() == before
    change(run, lambda content: content["model"].update(dropout=0.2))
    with pytest.raises(ValueError, match=r"model.dropout was 0.2, is 0.1\. Put back") as error:
        train_run(str(tiny), SHORT, run)
    assert "\n" not in str(error.value)


SHARDED = """
import json, sys
import jax
import jax.numpy as jnp
from diffjax.train import sharding
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.state import TrainState, counter

mesh = sharding.make_mesh(data=1, fsdp=4, tensor=2)
params = {"query": {"kernel": jnp.arange(64.0 * 512).reshape(64, 512)}, "bias": jnp.arange(3.0)}
average = jax.tree.map(lambda x: 2 * x, params)
state = TrainState(counter(4), params, {"slow": average}, (average,), {}, counter(-1))
state = jax.device_put(state, sharding.shardings(state, mesh))
checkpoints = Checkpoints(json.loads(sys.argv[1]))
checkpoints.save(4, state, {"data": {"fingerprint": {}}})
checkpoints.wait()
print(json.dumps(str(state.ema["slow"]["query"]["kernel"].sharding.spec)))
"""


def test_a_state_of_eight_devices_opens_on_one(processes, tmp_path):
    spec = processes.on_eight_devices(SHARDED, str(tmp_path / "checkpoints"))
    assert "fsdp" in spec and "tensor" in spec
    leaf = jax.ShapeDtypeStruct
    like = {"query": {"kernel": leaf((64, 512), "float32")}, "bias": leaf((3,), "float32")}
    shapes = weights.Weights(0, like, {})
    got = weights.read_weights(tmp_path / "checkpoints", None, "slow", shapes)
    assert got is not None and got.step == 4
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(got.params))
    kernel = 2 * np.arange(64.0 * 512, dtype=np.float32).reshape(64, 512)
    same(got.params, {"query": {"kernel": kernel}, "bias": 2 * np.arange(3, dtype=np.float32)})
