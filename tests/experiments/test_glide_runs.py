"""GLIDE's three trainings: text, then without text too, then around a mask, each from the last."""

import shutil

import jax
import numpy as np
import pytest
from in_process import refusal, train

from diffjax.assembly.experiment import Experiment
from diffjax.denoisers.conditions.learned_text import LearnedTextCondition
from diffjax.diffusion.guidance import Guidance
from diffjax.launch.settings import load_config
from diffjax.pretrained.pipelines import pipeline_of_run
from diffjax.runs import open_run
from diffjax.train.loop import build_state

CONFIG = """
from configs.common import make


def get_config(arg=None):
    return make(
        data=dict(
            train=dict(type="folder", path="@FOLDER@"),
            test=dict(type="folder", path="@FOLDER@"),
            transforms=(dict(type="tokenize"), @ERASED@ dict(type="to_float")),
            eval_transforms=(dict(type="tokenize", pick="first"), @ERASED@ dict(type="to_float")),
        ),
        tokenizer=dict(type="train", vocab_size=@VOCAB@, context=32),
        conditions=dict(
            caption=dict(
                type="learned_text", drop=@DROP@,
                encoder=dict(type="glide_text", width=8, depth=1, heads=2),
            ),
            @KNOWN@
        ),
        model=dict(type="unet", channels=8, channel_mult=(1,), blocks=1, attention_levels=(),
                   norm_groups=2, cross_attention=True, added_kv=True, time_embed="cos"),
        task=dict(type="diffusion", schedule=dict(type="cosine"), prediction=dict(type="eps"),
                  learned_variance=True),
        init_from=@FROM@,
        optim=dict(type="adam", lr=1e-2),
        ema=dict(slow=dict(half_life=10)),
        train=dict(steps=2, batch_size=4, checkpoint_every=2, log_every=2),
        sampling=dict(sampler="ddpm", variance="learned", steps=2, clip=True),
    )
"""
PLAIN = dict(ERASED="", KNOWN="", DROP="0.0", FROM="dict()", VOCAB="600")
MASKS = dict(
    ERASED='dict(type="random_mask"),', KNOWN='known=dict(type="masked_image", layout="glide"),'
)


def write(path, folder, **choices):
    text = CONFIG.replace("@FOLDER@", str(folder))
    for name, value in {**PLAIN, **choices}.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def text(scenes, tmp_path_factory):
    root = tmp_path_factory.mktemp("glide")
    train(write(root / "text.py", scenes), root / "text")
    return root / "text"


def begun(config, workdir):
    experiment = Experiment(load_config(str(config), ()), workdir, named=True)
    with jax.set_mesh(experiment.mesh):
        state, frozen, _ = build_state(experiment.run)
    return experiment.task.model, state.variables(frozen, None)


def test_the_encoder_is_trained_and_a_run_opens_by_itself(text, scenes, tmp_path):
    config = write(tmp_path / "text.py", scenes)
    _, fresh = begun(config, tmp_path / "fresh")
    run = open_run(shutil.copytree(text, tmp_path / "moved"))
    (caption,) = run.task.conditions
    assert isinstance(caption, LearnedTextCondition) and not caption.has_null
    words = run.tokenizer
    assert (caption.encoder.vocab, caption.encoder.context) == (words.vocab_size, 32)
    assert caption.encoder.end == words.eot
    assert caption.null_ids == tuple(words.null_ids.tolist())
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), fresh.params["conditions"],
        run.variables.params["conditions"],
    )  # fmt: skip
    assert all(leaf > 0 for name, leaf in moved["caption"].items() if name in ("table", "padding"))
    pipeline = pipeline_of_run(run)
    tokens = words.encode(["a red circle", "a blue ring"])
    drawn = pipeline.draw({"tokens": tokens}, 0, np.zeros(2))
    assert drawn.shape == (2, 32, 32, 3) and np.abs(drawn[0] - drawn[1]).max() > 0


def test_the_first_fine_tune_learns_the_empty_caption(text, scenes, tmp_path):
    config = write(tmp_path / "free.py", scenes, DROP="0.2", FROM=f"dict(run={str(text)!r})")
    model, held = begun(config, tmp_path / "free")
    was = open_run(text)
    jax.tree.map(np.testing.assert_array_equal, held.params, was.variables.params)
    # What it has no null for before, it has then; the network is the same.
    with pytest.raises(ValueError, match=r"conditions\.caption\.drop=0"):
        was.task.model.check_guidance(Guidance(3.0), False)
    model.check_guidance(Guidance(3.0), False)


def test_the_second_sees_further_channels_that_begin_without_effect(text, scenes, tmp_path):
    more = dict(MASKS, DROP="0.2", FROM=f"dict(run={str(text)!r}, widen=True)")
    config = write(tmp_path / "inpaint.py", scenes, **more)
    model, held = begun(config, tmp_path / "begin")
    kernel, was = held.params["conv_in"]["kernel"], open_run(text)
    assert kernel.shape[2] == 7 and not np.any(kernel[:, :, 3:])
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 32, 32, 3)).astype("f4")
    tokens = was.tokenizer.encode(["a red circle", "a blue ring"])
    known = rng.uniform(size=(2, 32, 32, 4)).astype("f4")
    level = model.schedule.level(np.float32(500))

    def estimate(model, variables, cond):
        return model.denoiser(variables, cond, Guidance(), None, z)(z, level, level).x

    before = estimate(was.task.model, was.variables, {"tokens": tokens})
    after = estimate(model, held, {"tokens": tokens, "masked_image": known})
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    train(config, tmp_path / "inpaint")
    run = open_run(tmp_path / "inpaint")
    assert np.abs(run.variables.params["conv_in"]["kernel"][:, :, 3:]).max() > 0
    image, mask = rng.uniform(-1, 1, (32, 32, 3)), np.zeros((32, 32, 1))
    mask[:, 16:] = 1
    drawn = pipeline_of_run(run).draw(
        {"tokens": tokens}, 0, np.arange(2), image=image.astype("f4"), mask=mask.astype("f4")
    )
    np.testing.assert_allclose(drawn[:, :, :16], np.tile(image[None, :, :16], (2, 1, 1, 1)),
                               atol=1e-5)  # fmt: skip


def test_what_does_not_fit_is_refused(text, scenes, tmp_path):
    run = repr(str(text))
    narrow = write(tmp_path / "a.py", scenes, **MASKS, FROM=f"dict(run={run})")
    assert "set init_from.widen=True" in refusal(narrow, tmp_path / "a")
    other = write(tmp_path / "b.py", scenes, FROM=f"dict(run={run})", VOCAB="590")
    assert "reads another tokenizer's ids" in refusal(other, tmp_path / "b")
    file = write(tmp_path / "c.py", scenes)
    file.write_text(file.read_text().replace('tokenizer=dict(type="train", vocab_size=600, '
                                             "context=32),", ""))  # fmt: skip
    assert "tokenizer" in refusal(file, tmp_path / "c")
    file = write(tmp_path / "d.py", scenes)
    file.write_text(file.read_text().replace("heads=2", "heads=2, vocab=7"))
    assert "encoder.vocab=7, but the tokenizer says 600" in refusal(file, tmp_path / "d")
    file = write(tmp_path / "e.py", scenes)
    file.write_text(file.read_text().replace("heads=2", "head=2"))
    assert "conditions.caption.encoder" in refusal(file, tmp_path / "e")
