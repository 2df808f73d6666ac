"""Runs of a prior, of either kind, and of a decoder that draws by it: trained, opened without what
they rested on, drawn from by a sentence."""

import json
import shutil

import jax
import numpy as np
import pytest
from in_process import refusal, train
from mains import flags_of

from diffjax.data.prepared import PreparedSource
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.pretrained import codes
from diffjax.pretrained.pipelines import drawn_by, pipeline_of_run
from diffjax.runs import open_run
from diffjax.train.writer import read_records, read_text
from experiments import sample

BASE = """
from configs.common import make

CLIP = dict(run="@CLIP@")
DATA = dict(
    train=dict(type="folder", path="@FOLDER@"),
    test=dict(type="folder", path="@FOLDER@"),
    transforms=(dict(type="tokenize"), dict(type="to_float")),
    eval_transforms=(dict(type="tokenize", pick="first"), dict(type="to_float")),
)
REST = dict(
    data=DATA,
    task=dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="x0"),
              weighting=dict(type="snr", power=0.0)),
    optim=dict(type="adam", lr=1e-3),
    ema=dict(slow=dict(half_life=10)),
    train=dict(steps=2, batch_size=4, checkpoint_every=2, log_every=2),
    sampling=dict(sampler="ddim", steps=2, ema="slow"),
)


def get_config(arg=None):
"""
CODEC = """
    return make(
        data=dict(train=dict(type="folder", path="@FOLDER@")),
        model=dict(type="autoencoder", channels=4, channel_mult=(1, 2), blocks=1, norm_groups=2),
        task=dict(type="autoencoder"),
        optim=dict(type="adam", lr=1e-3),
        train=dict(steps=1, batch_size=4, checkpoint_every=1, log_every=1),
    )
"""
PRIOR = """
    return make(
        **REST,
        embedding=CLIP,
        conditions=dict(caption=dict(type="text", tower=CLIP, to="both", drop=0.1)),
        model=dict(type="prior", width=16, depth=1, heads=2),
        evals=dict(prior=dict(type="prior", limit=6, batch_size=4)),
    )
"""
AUTOREGRESSIVE = """
    rest = dict(
        task=dict(type="autoregressive_prior", variance=0.999),
        train=dict(steps=4, batch_size=8, checkpoint_every=2, log_every=2),
        sampling=dict(temperature=0.5, ema="slow"),
    )
    return make(
        **{**REST, **rest},
        embedding=CLIP,
        conditions=dict(caption=dict(type="text", tower=CLIP, to="both", drop=0.1)),
        model=dict(type="prior_ar", buckets=16, dot_buckets=4, width=16, depth=1, heads=2),
        evals=dict(prior=dict(type="prior", limit=6, batch_size=4),
                   codes=dict(type="likelihood", pred="code_likelihood", batch_size=8)),
    )
"""
DECODER = """
    return make(
        **REST,
        conditions=dict(clip=dict(type="image_embedding", tower=CLIP, drop=0.1, tokens=2)),
        prior=dict(run="@PRIOR@", recipe=dict(steps=3)),
        model=dict(type="dit", width=16, depth=1, heads=2, patch=8, cross_attention=True),
    )
"""


def config(text, path, **named):
    for name, value in named.items():
        text = text.replace(f"@{name}@", str(value))
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def clip(clip_run, tmp_path_factory):
    """A copy of the CLIP run, which can be deleted."""
    return shutil.copytree(clip_run, tmp_path_factory.mktemp("stages") / "clip")


@pytest.fixture(scope="module")
def prior(clip, scenes):
    file = config(BASE + PRIOR, clip.parent / "prior.py", CLIP=clip, FOLDER=scenes)
    train(file, clip.parent / "prior")
    return clip.parent / "prior"


def test_a_prior_is_measured_and_opens_without_its_clip(prior, clip, tmp_path):
    found = {r["name"]: r["value"] for r in read_records(prior / "evals.jsonl")}
    assert set(found) == {"cosine", "cosine_any", "cosine_text", "cosine_neighbour"}
    assert all(-1 <= value <= 1 for value in found.values())
    moved = shutil.copytree(prior, tmp_path / "moved")
    run = open_run(moved, ema="slow")
    assert isinstance(run.task.model.space, EmbeddingSpace)
    kept = open_run(clip).variables.params["image"]
    jax.tree.map(np.testing.assert_array_equal,
                 run.variables.frozen["embedding"]["params"]["image"], kept)  # fmt: skip
    drawn = pipeline_of_run(run).draw(
        {"tokens": run.tokenizer.encode(["a red circle", "a ring"])}, 0, np.arange(2)
    )
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), 8**0.5, rtol=1e-5)


@pytest.fixture(scope="module")
def autoregressive(clip, scenes):
    file = config(BASE + AUTOREGRESSIVE, clip.parent / "codes.py", CLIP=clip, FOLDER=scenes)
    train(file, clip.parent / "codes")
    return clip.parent / "codes"


def test_a_prior_of_codes_is_measured_and_opens_without_its_clip(autoregressive, tmp_path):
    found = {r["name"]: r["value"] for r in read_records(autoregressive / "evals.jsonl")}
    cosines = {"cosine", "cosine_any", "cosine_text", "cosine_neighbour"}
    assert cosines < set(found) and all(-1 <= found[name] <= 1 for name in cosines)
    assert found["code_likelihood/untrained_nats"] == pytest.approx(np.log(16), rel=1e-5)
    assert 0 < found["code_likelihood/nats"] < np.log(16) + 0.1
    run = open_run(shutil.copytree(autoregressive, tmp_path / "moved"), ema="slow")
    held = run.variables.frozen["codes"]
    network = run.task.network
    shares = np.cumsum(held["variance"]) / np.sum(held["variance"])
    k = network.components
    assert shares[k - 1] >= 0.999 > shares[k - 2] and k > 1
    # The test split is the training split here: it keeps the share, but for the buckets.
    assert found["code_likelihood/explained"] == pytest.approx(float(shares[k - 1]), abs=0.05)
    cond = {"tokens": run.tokenizer.encode(["a red circle", "a ring"])}
    with pytest.raises(ValueError, match="draws image embeddings by text: name it in"):
        drawn_by(run)
    drawn = run.task.predict_fns()["sample"](run.variables, np.uint32(0), np.arange(2), cond)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=-1), 8**0.5, rtol=1e-5)


def test_a_prior_of_codes_goes_on_to_the_same_bytes(autoregressive, tmp_path, monkeypatch):
    """With the codes that it keeps: nothing is fitted again."""
    workdir = shutil.copytree(autoregressive, tmp_path / "resumed")
    shutil.rmtree(workdir / "checkpoints" / "4")
    assert open_run(workdir).step == 2

    def never(*_):
        raise AssertionError("codes are fitted once")

    monkeypatch.setattr(codes, "fit_codes", never)
    train(autoregressive.parent / "codes.py", workdir)
    for ema in (None, "slow"):
        whole, again = (open_run(w, 4, ema).variables for w in (autoregressive, workdir))
        jax.tree.map(np.testing.assert_array_equal, again, whole)


def test_a_decoder_draws_through_a_prior_of_codes(autoregressive, clip, scenes, tmp_path):
    decoder = DECODER.replace("steps=3", "temperature=0.0, guidance=2.0")
    named = {"CLIP": clip, "FOLDER": scenes, "PRIOR": autoregressive}
    train(config(BASE + decoder, tmp_path / "decoder.py", **named), tmp_path / "decoder")
    run = open_run(shutil.copytree(tmp_path / "decoder", tmp_path / "moved"), ema="slow")
    was = open_run(autoregressive).variables
    jax.tree.map(np.testing.assert_array_equal, run.variables.frozen["prior"]["frozen"], was.frozen)
    assert dict(run.task.model.prior_recipe) == {
        "best_of": 2, "temperature": 0.0, "guidance": 2.0}  # fmt: skip
    pipeline = pipeline_of_run(run)
    words = run.tokenizer or open_run(autoregressive).tokenizer
    drawn = pipeline.draw({"tokens": words.encode(["a red circle"])}, 0, np.arange(1))
    assert drawn.shape == (1, 32, 32, 3) and np.isfinite(drawn).all()
    wrong = config(BASE + DECODER, tmp_path / "wrong.py", **named)
    assert "unknown key of sampling: 'steps'" in refusal(wrong, tmp_path / "wrong")


def test_codes_that_cannot_be_are_refused_before_anything_is_embedded(
    clip, scenes, tmp_path, monkeypatch
):
    def never(*_):
        raise AssertionError("nothing is embedded")

    monkeypatch.setattr(codes.FittedCodes, "_embedded", never)
    free, both = "variance=0.999", 'type="prior_ar"'
    changes = [
        ([(free, "variance=None"), (both, both + ", components=9")],
         "model.components=9, but the embeddings have 8 elements"),
        ([(both, both + ", components=4")], "leave one out"),
        ([("embedding=CLIP,", "")], "add a section embedding"),
        ([("buckets=16, dot_buckets=4, ", ""), (both, 'type="prior"')],
         "trains a model of type 'prior_ar', not 'prior'"),
        ([("temperature=0.5", "temperature=-1")], "sampling.temperature=-1 must be at least 0"),
        ([("temperature=0.5", "steps=5")], "unknown key of sampling: 'steps'"),
        ([(free, "variance=1.5")], "task.variance=1.5 must be at most 1"),
    ]  # fmt: skip
    for number, (replaced, said) in enumerate(changes):
        text = BASE + AUTOREGRESSIVE
        for old, new in replaced:
            text = text.replace(old, new)
        file = config(text, tmp_path / f"wrong_{number}.py", CLIP=clip, FOLDER=scenes)
        assert said in refusal(file, tmp_path / f"run_{number}")


@pytest.fixture(scope="module")
def decoder(prior, clip, scenes):
    file = config(BASE + DECODER, clip.parent / "decoder.py", CLIP=clip, FOLDER=scenes, PRIOR=prior)
    train(file, clip.parent / "decoder")
    return clip.parent / "decoder"


def test_a_decoder_draws_by_a_sentence_through_its_prior(prior, decoder, tmp_path):
    run = open_run(shutil.copytree(decoder, tmp_path / "moved"), ema="slow")
    held = run.variables.frozen["prior"]
    was = open_run(prior).variables
    jax.tree.map(np.testing.assert_array_equal, held["params"], was.params)
    jax.tree.map(np.testing.assert_array_equal, held["frozen"], was.frozen)
    assert dict(run.task.model.prior_recipe) == {"best_of": 2, "sampler": "ddim", "steps": 3}
    pipeline = pipeline_of_run(run)
    assert pipeline.fields == ["tokens"]
    words = run.tokenizer or open_run(prior).tokenizer
    drawn = pipeline.draw({"tokens": words.encode(["a red circle"])}, 0, np.arange(1))
    assert drawn.shape == (1, 32, 32, 3) and np.isfinite(drawn).all()


@pytest.fixture
def drawn(monkeypatch, tmp_path, scenes, decoder):
    """`experiments.sample` of the decoder with these flags; gives the recipe in the picture."""
    pictures = sorted(scenes.rglob("*.png"))

    def main(run=decoder, **given):
        values = flags_of(sample, monkeypatch)
        monkeypatch.setattr(sample, "FLAGS", values)
        given = {"run": run, "out": tmp_path / "drawn.png", "steps": 2, "num": 3, **given}
        named = {"@": pictures[0], "#": pictures[1]}
        values(["sample", *(f"--{k}={named.get(v, v)}" for k, v in given.items())])
        sample.main()
        return json.loads(read_text(tmp_path / "drawn.png")["recipe"])

    return main


WAYS = {
    "variations": {},
    "interpolate": dict(other_image="#"),
    "text_difference": dict(source="a red circle", prompt="a green circle"),
}


@pytest.mark.parametrize("what", WAYS)
def test_a_picture_is_drawn_through_its_embedding(what, drawn):
    said = drawn(embedding=what, init_image="@", **WAYS[what])
    assert said["embedding"] == what and said["steps"] == 2 and said["sampler"] == "ddim"
    assert said["init_image"].endswith(".png")


WRONG = {
    "needs --init_image": dict(embedding="variations"),
    "needs --other_image": dict(embedding="interpolate", init_image="@"),
    "needs --source": dict(embedding="text_difference", init_image="@", prompt="a"),
    "is of another --embedding than none": dict(source="a ring", prompt="a"),
    "does not read --prompt": dict(embedding="variations", init_image="@", prompt="a"),
    "does not read --strength": dict(embedding="variations", init_image="@", strength=0.5),
    "ddim": dict(embedding="variations", init_image="@", sampler="heun"),
    "did you mean 'eta'": dict(embedding="variations", init_image="@", set="etaa=1"),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_it_lacks_or_does_not_read_is_said(said, drawn, tmp_path):
    with pytest.raises(ValueError, match=said):
        drawn(**WRONG[said])
    assert not (tmp_path / "drawn.png").exists()


def test_a_run_that_reads_no_image_embedding_is_refused(prior, drawn):
    with pytest.raises(ValueError, match="has no variations: that is of runs with a condition"):
        drawn(run=prior, embedding="variations", init_image="@")


def losses(workdir):
    return [r["train/loss"] for r in read_records(workdir / "metrics.jsonl") if "train/loss" in r]


KEPT = ('transforms=(dict(type="tokenize"), dict(type="to_float")),\n    eval_',
        'cache_latents=True, transforms=(dict(type="tokenize"),),\n    eval_')  # fmt: skip


def test_a_prior_learns_the_same_from_embeddings_that_were_kept(
    prior, clip, scenes, tmp_path, monkeypatch
):
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path / "data"))
    text = (BASE + PRIOR).replace(*KEPT)
    assert text != BASE + PRIOR
    train(config(text, tmp_path / "kept.py", CLIP=clip, FOLDER=scenes), tmp_path / "kept")
    np.testing.assert_allclose(losses(tmp_path / "kept"), losses(prior), rtol=1e-4)
    was, now = open_run(prior), open_run(tmp_path / "kept")
    assert now.task.model == was.task.model
    (folder,) = (tmp_path / "data").glob("latents_*")
    assert PreparedSource(folder.name, "train", tmp_path / "data").info.image_shape == (8,)


def test_a_decoders_embeddings_are_kept_beside_its_latents(
    prior, clip, scenes, tmp_path, monkeypatch
):
    codec_run = tmp_path / "codec"
    train(config(BASE + CODEC, tmp_path / "codec.py", CLIP=clip, FOLDER=scenes), codec_run)
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path / "data"))
    within = DECODER.replace("prior=", f"codec=dict(run='{codec_run}'), prior=")
    within = within.replace("patch=8", "patch=2")
    fly = config(BASE + within, tmp_path / "fly.py", CLIP=clip, FOLDER=scenes, PRIOR=prior)
    train(fly, tmp_path / "fly")
    kept = (BASE + within).replace(*KEPT)
    file = config(kept, tmp_path / "kept.py", CLIP=clip, FOLDER=scenes, PRIOR=prior)
    train(file, tmp_path / "kept")
    np.testing.assert_allclose(losses(tmp_path / "kept"), losses(tmp_path / "fly"), rtol=1e-3)
    flip = kept.replace('cache_latents=True, transforms=(',
                        'cache_latents=True, transforms=(dict(type="random_flip"), ')  # fmt: skip
    file = config(flip, tmp_path / "flip.py", CLIP=clip, FOLDER=scenes, PRIOR=prior)
    assert "is of the upright picture" in refusal(file, tmp_path / "flip")


def test_a_stages_recipe_that_nobody_would_follow_is_refused(prior, clip, scenes, tmp_path):
    named = {"CLIP": clip, "FOLDER": scenes, "PRIOR": prior}
    for option, said in (
        ("clip_guidance=1.0", "clip_guidance moves the last stage's images alone"),
        ("guidance_by=dict(caption=2.0)", "a stage takes one scale, and guidance_by is a mapping"),
    ):
        text = BASE + DECODER.replace("steps=3", f"steps=3, {option}")
        file = config(text, tmp_path / "refused.py", **named)
        assert said in refusal(file, tmp_path / "refused")


def test_sections_that_do_not_fit_are_refused(clip, clip_run, scenes, tmp_path):
    both = config(
        BASE + PRIOR.replace("embedding=CLIP", "embedding=CLIP, codec=CLIP"),
        tmp_path / "both.py", CLIP=clip, FOLDER=scenes,
    )  # fmt: skip
    assert "two spaces of diffusion" in refusal(both, tmp_path / "a")
    wrong = config(BASE + DECODER, tmp_path / "no_prior.py", CLIP=clip, FOLDER=scenes, PRIOR=clip)
    assert "a run of task 'clip' that draws no embeddings" in refusal(wrong, tmp_path / "b")
    label = config(
        BASE + PRIOR.replace("drop=0.1", "drop=0.1, pads=1"), tmp_path / "key.py", CLIP=clip,
        FOLDER=scenes,
    )  # fmt: skip
    assert "unknown key" in refusal(label, tmp_path / "c")
