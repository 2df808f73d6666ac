"""Latents kept as array_record, and whole runs of text to image: a codec, a CLIP, diffusion."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from random_variables import random_variables
from scenes import scenes

from diffjax.assembly import frozen
from diffjax.assembly.data import DataConfig, epoch_of
from diffjax.assembly.stages import opened
from diffjax.data.loader import Loader
from diffjax.data.prepared import PreparedSource, prepared_splits
from diffjax.data.transforms import make_transforms
from diffjax.denoisers.spaces import LatentSpace
from diffjax.models import build_model
from diffjax.pretrained import latent_cache as latents
from diffjax.pretrained.codec import Codec
from diffjax.pretrained.latent_cache import cached_latents
from diffjax.pretrained.pipelines import pipeline_of_run
from diffjax.runs import open_run
from experiments.train import train_run

TO_FLOAT = make_transforms([{"type": "to_float"}])
NETWORK = build_model(
    "autoencoder", channels=4, channel_mult=(1, 2, 2), blocks=1, latent_channels=2, norm_groups=2
)


def codec(seed=0):
    variables = random_variables(NETWORK.init, np.zeros((1, 32, 32, 3), "f4"), seed=seed)
    return Codec(NETWORK, variables, f"tiny {seed}")


@pytest.fixture(scope="module")
def pictures():
    return scenes("train", 70)  # more than are encoded at once, and no multiple of it


@pytest.fixture(scope="module")
def kept(pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    return root, cached_latents(pictures, TO_FLOAT, codec(), root)


def test_moments_are_kept_as_they_are(pictures, kept):
    _, source = kept
    assert source.info.codec == "tiny 0" and source.info.image_shape == (8, 8, 4)
    assert source.info.num_classes == pictures.info.num_classes and len(source) == 70
    image = np.stack([pictures[i]["image"] for i in range(70)]) / np.float32(127.5) - 1
    moments = jax.jit(LatentSpace(NETWORK, image.shape[1:]).moments)
    fly = moments({"codec": codec().variables}, image)
    got = np.stack([source[i]["image"] for i in range(70)])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, fly, atol=1e-4)
    assert [source[i]["label"] for i in range(70)] == pictures.columns["label"].tolist()
    assert source[3]["caption"] == pictures[3]["caption"]


def test_a_batch_is_read_from_them(kept):
    _, source = kept
    for cache in (False, True):
        batch = Loader(source, (), 4, 0, cache=cache).batch(0)
        assert batch["image"].shape == (4, 8, 8, 4) and batch["image"].dtype == np.float32
    with pytest.raises(ValueError, match="needs uint8"):
        Loader(source, TO_FLOAT, 4, 0).batch(0)
    with pytest.raises(ValueError, match="no size or channels to choose"):
        root, name = kept[0], source.info.name
        PreparedSource(name, "train", root, size=8)


def test_latents_are_shown_as_often_as_their_pictures_fields_say(pictures, kept):
    """The fields are the pictures' own: what is kept has the moments, the label and the caption."""
    rule = {"where": {"num_objects": 1}, "times": 3}
    epoch = epoch_of(DataConfig(train={}, oversample=(rule,)), pictures)
    assert epoch is not None and 70 < len(epoch) < 210
    batch = Loader(kept[1], (), len(epoch), 0, epoch=epoch).batch(0)
    times = np.where(pictures.columns["num_objects"] == 1, 3, 1)
    want = np.repeat(pictures.columns["label"], times)
    assert sorted(batch["label"]) == sorted(want)
    assert epoch_of(DataConfig(train={}), pictures) is None


def test_they_are_computed_once_for_each_codec_and_data(pictures, kept, monkeypatch):
    root, source = kept
    monkeypatch.setattr(latents, "latent_builder", lambda *_: pytest.fail("encoded again"))
    again = cached_latents(pictures, TO_FLOAT, codec(), root)
    assert again.info == source.info
    assert prepared_splits(source.info.name, root) == ["train"]
    monkeypatch.undo()
    other = cached_latents(pictures, TO_FLOAT, codec(1), root)
    fewer = cached_latents(scenes("train", 69), TO_FLOAT, codec(), root)
    assert len({s.info.name for s in (source, other, fewer)}) == 3
    assert len({s.info.fingerprint for s in (source, other, fewer)}) == 3


def test_another_codecs_latents_are_refused():
    held, moments = frozen.Frozen(codec(), {}, {}), (8, 8, 4)
    assert held.space(moments, "tiny 0").cached
    assert not held.space((32, 32, 3), None).cached
    with pytest.raises(ValueError, match=r"hold latents of the codec tiny 1, but .* is tiny 0"):
        held.space(moments, "tiny 1")
    with pytest.raises(ValueError, match="is missing"):
        frozen.Frozen(None, {}, {}).space(moments, "tiny 0")


CODEC = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(train=dict(type="folder", path="@FOLDER@")),
        model=dict(type="autoencoder", channels=4, channel_mult=(1, 2), blocks=1, norm_groups=2),
        task=dict(type="autoencoder"),
        optim=dict(type="adam", lr=1e-3),
        train=dict(steps=2, batch_size=8, checkpoint_every=2, log_every=2),
    )
"""
LATENT = """
from configs.common import make

DRAWN = dict(sampler="ddim", steps=2, guidance=2.0, ema="slow")


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="folder", path="@FOLDER@"),
            transforms=(dict(type="tokenize"), dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
        ),
        codec=dict(run="@RUNS@/codec", config="@CODEC@"),
        conditions=dict(
            caption=dict(type="text", tower=dict(run="@CLIP@", ema="slow"), drop=0.1)
        ),
        clip_scorer=dict(run="@CLIP@"),
        model=dict(type="dit", width=16, depth=1, heads=2, patch=4, cross_attention=True),
        task=dict(
            type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="v"),
        ),
        optim=dict(type="adam", lr=1e-3),
        ema=dict(slow=dict(half_life=100)),
        train=dict(steps=2, batch_size=8, checkpoint_every=2, log_every=2),
        sampling=DRAWN,
        evals=dict(
            samples=dict(type="samples", columns=2, max_rows=3),
            generation=dict(type="generation", num_samples=8, columns=2),
            trajectory=dict(type="trajectory", rows=2, columns=2),
        ),
    )
"""


@pytest.fixture(scope="module")
def run(scenes_folder, clip_run, tmp_path_factory):
    """(its config file, its workdir)."""
    root = tmp_path_factory.mktemp("latent")
    (root / "codec.py").write_text(CODEC.replace("@FOLDER@", str(scenes_folder)))
    text = LATENT.replace("@FOLDER@", str(scenes_folder)).replace("@RUNS@", str(root))
    text = text.replace("@CLIP@", str(clip_run)).replace("@CODEC@", str(root / "codec.py"))
    (root / "latent.py").write_text(text)
    experiment = train_run(str(root / "latent.py"), [], root / "run")
    return root, experiment


@pytest.fixture(scope="module")
def scenes_folder(request):
    return request.getfixturevalue("scenes")


@pytest.mark.heavy
def test_what_is_missing_is_trained_first_and_all_is_evaluated(run):
    root, experiment = run
    assert (root / "codec" / "checkpoints" / "2").is_dir()
    got = [json.loads(line) for line in (root / "run" / "evals.jsonl").read_text().splitlines()]
    assert {r["name"] for r in got} >= {"frechet", "precision"}
    assert all(np.isfinite(r["value"]) for r in got)
    for name in ("codec", "caption"):
        assert json.loads((root / "run" / f"{name}.json").read_text())["weights"]
    assert {p.name for p in (root / "run" / "figures").iterdir()} >= {"samples", "trajectory"}
    assert experiment.tokenizer is not None


@pytest.mark.heavy
def test_a_pipeline_draws_what_the_task_draws(run):
    """Both roads: a sample by the run's own predict function, and by its pipeline, bit by bit."""
    _, experiment = run
    pipeline = pipeline_of_run(open_run(experiment.workdir, ema="slow"))
    prompts = ["a red circle", "a blue star"]
    cond = {"tokens": np.repeat(experiment.tokenizer.encode(prompts), 2, axis=0)}
    index = np.array([0, 1, 0, 1], np.int32)
    images = pipeline.draw(cond, 3, index, batch_size=4)
    assert images.shape == (4, 32, 32, 3)
    _, state, held = experiment.trained()
    theirs = experiment.task.predict_fns()["sample"](
        state.variables(held, "slow"), np.uint32(3), index, cond, **pipeline.recipe
    )
    np.testing.assert_array_equal(images, theirs)
    kept = pipeline.draw(cond, 3, index, image=images[0], strength=0.5)
    assert np.abs(kept - images[0]).mean() < np.abs(images[1] - images[0]).mean()


@pytest.mark.heavy
def test_another_codec_in_the_same_place_is_refused(run, tmp_path):
    root, experiment = run
    record = root / "run" / "codec.json"
    before = record.read_text()
    record.write_text(json.dumps({**json.loads(before), "weights": "others"}))
    try:
        with pytest.raises(ValueError, match=r"codec: .* has changed since"):
            experiment.trained()
    finally:
        record.write_text(before)


@pytest.mark.heavy
def test_a_run_that_draws_otherwise_is_told(clip_run):
    with pytest.raises(ValueError, match="run of task 'clip'"):
        pipeline_of_run(open_run(clip_run))


def drawn(workdir):
    """What a run's pipeline draws."""
    run = open_run(workdir, ema="slow")
    tokens = np.repeat(run.tokenizer.encode(["a red circle", "a blue star"]), 2, axis=0)
    return pipeline_of_run(run).draw({"tokens": tokens}, 3, np.array([0, 1, 0, 1]))


@pytest.mark.heavy
def test_a_run_that_is_moved_draws_the_same_without_what_it_was_made_of(
    run, clip_run, tmp_path, monkeypatch
):
    """The codec's run, CLIP's run, the kept latents, the pictures and all configs are gone."""
    root, experiment = run
    frozen_files = sorted(p.name for p in (root / "run" / "frozen").iterdir())
    assert [name.partition("-")[0] for name in frozen_files] == ["caption", "codec"]
    expected = drawn(root / "run")
    moved = shutil.copytree(root / "run", tmp_path / "moved")
    places = (root, clip_run, Path(experiment.data.train["path"]))
    monkeypatch.setattr("diffjax.launch.settings.load_config", lambda *_: pytest.fail("a config"))
    aside = [(place, place.with_name(f"{place.name}_gone")) for place in places]
    try:
        for place, gone in aside:
            place.rename(gone)
        assert drawn(moved).tobytes() == expected.tobytes()
        assert open_run(moved).tokenizer == experiment.tokenizer
    finally:
        for place, gone in aside:
            gone.rename(place)


@pytest.mark.heavy
def test_a_frozen_network_that_is_damaged_is_found(run, tmp_path):
    root, _ = run
    moved = shutil.copytree(root / "run", tmp_path / "moved")
    (file,) = (moved / "frozen").glob("codec-*")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"codec-\w+\.safetensors is not as it was written"):
        open_run(moved)
    file.unlink()
    with pytest.raises(ValueError, match=r"codec-\w+\.safetensors cannot be read"):
        open_run(moved)


@pytest.mark.heavy
def test_a_run_of_before_there_was_a_record_gets_it_with_those_it_rests_on(run, clip_run, tmp_path):
    root, _ = run
    expected = drawn(root / "run")
    parts = [root / "run", root / "codec", clip_run]
    before = [(p / "resolved.json").read_bytes() for p in parts]
    for part in parts:
        (part / "resolved.json").unlink()
    shutil.rmtree(root / "run" / "frozen")
    with pytest.raises(ValueError, match=r"experiments\.evaluate --run=.* writes it"):
        open_run(root / "run")
    assert opened(root / "run").step == 2
    assert [(p / "resolved.json").read_bytes() for p in parts] == before
    assert drawn(root / "run").tobytes() == expected.tobytes()


@pytest.mark.heavy
def test_what_is_kept_is_not_written_again(run):
    root, _ = run
    kept = [*(root / "run" / "frozen").iterdir(), root / "run" / "resolved.json"]
    before = [p.stat().st_mtime_ns for p in kept]
    train_run(str(root / "latent.py"), [], root / "run")
    assert [p.stat().st_mtime_ns for p in kept] == before
