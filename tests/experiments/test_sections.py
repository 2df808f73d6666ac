"""A section that is wrong is answered where it stands, before others stumble over it."""

import math
import re

import pytest

from configs.common import make
from diffjax.assembly.sections import MOVED, NEEDED, SECTIONS, check_sections
from diffjax.launch.settings import load_config
from diffjax.runs.config import flat, plain
from diffjax.runs.migrate import RENAMED

DIGITS, CLIP, VAE = "configs/ddpm/digits.py", "configs/clip/shapes.py", "configs/vae/digits.py"


def changed(path: str, key: str, value) -> dict:
    config = plain(load_config(path))
    *parents, last = key.split(".")
    at = config
    for name in parents:
        at = at[int(name)] if isinstance(at, list) else at.setdefault(name, {})
    at[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "key", "value", "said"),
    [
        (DIGITS, "task.type", "difusion", "unknown task 'difusion'; did you mean 'diffusion'"),
        (DIGITS, "model.type", "unett", "unknown model 'unett'; did you mean 'unet'"),
        (CLIP, "model.image.type", "vti", "unknown model.image 'vti'; did you mean 'vit'"),
        (VAE, "model.encoder.type", "mpl", "unknown model.encoder 'mpl'"),
        (VAE, "task.likelihood.type", "logistc", "unknown task.likelihood 'logistc'"),
        (DIGITS, "features.type", "incpetion", "unknown features 'incpetion'"),
        (CLIP, "tokenizer.type", "tarin", "unknown tokenizer 'tarin'"),
        (CLIP, "data.transforms.0.type", "random_shfit", r"unknown data.transforms\[0\]"),
        (DIGITS, "data.test.type", "digit", "unknown data.test 'digit'"),
        (DIGITS, "evals.samples.type", "sample", "unknown evals.samples 'sample'"),
        (DIGITS, "optim.lr", -1, "^optim.lr=-1 must be greater than 0"),
        (DIGITS, "optim.clip_norm", -1, "^optim.clip_norm=-1 must be greater than 0"),
        (DIGITS, "optim.b2", 1.5, "^optim.b2=1.5 must be less than 1"),
        (DIGITS, "model.dropout", 1.5, "^model.dropout=1.5 must be less than 1"),
        (DIGITS, "model.channels", 10**9, "^model.channels=1000000000 must be at most 65536"),
        (CLIP, "model.text.depth", 0, "^model.text.depth=0 must be at least 1"),
        (CLIP, "model.image.width", math.nan, "model.image 'resnet': width=nan is no int"),
        (DIGITS, "train.keep_every", -2, "^train.keep_every=-2 must be at least 0"),
        (DIGITS, "train.steps", 10**22, "^train.steps=10000000000000000000000 must be at most"),
        (VAE, "evals.tight.num_images", -1, "^evals.tight.num_images=-1 must be at least 1"),
        (DIGITS, "seed", None, "seed=None is no int"),
        (DIGITS, "seed", -1, "^config.seed=-1 must be at least 0"),
        (DIGITS, "seed", 2**63, "^config.seed=9223372036854775808 must be at most"),
        (DIGITS, "ema.slow.half_life", 0, "^ema.slow.half_life=0 must be greater than 0"),
        (DIGITS, "mesh.fsdp", 2**40, "^mesh.fsdp=1099511627776 must be at most"),
        (DIGITS, "expected.x", [1], r"^expected.x=\[1\] must have 2 entries"),
        (DIGITS, "data.workers", -1, "^data.workers=-1 must be at least 0"),
        (DIGITS, "task.schedule.steps", 10**9, "^task.schedule.steps=1000000000 must be at most"),
    ],
)
def test_it_is_answered_where_it_stands(path, key, value, said):
    with pytest.raises(ValueError, match=said):
        check_sections(changed(path, key, value))


@pytest.mark.parametrize("wrong", [3, "word", [], [{"type": "unet"}], True, 0.0, ""])
@pytest.mark.parametrize("path", [DIGITS, CLIP, VAE])
def test_what_is_no_section_is_named_at_every_level(path, wrong):
    config = plain(load_config(path))
    sections = {k.rpartition(".")[0] for k in flat(config)} | set(config)
    # What a question asks of is looked at with the data that it is asked of.
    for key in sorted(k for k in sections if k not in ("", "seed") and "questions.q" not in k):
        with pytest.raises(ValueError, match=rf"^{key}(.*: | is a section, dict\(...\), not )"):
            check_sections(changed(path, key, wrong))


def test_the_configs_pass():
    for path in (DIGITS, CLIP, VAE):
        check_sections(plain(load_config(path)))


def test_what_configs_are_made_of_are_the_sections_that_are_checked():
    """Configs import nothing of experiments, so `configs/common.py` has the list again."""
    listed = re.search(r"any other key\):\s*(.*?)\.\s*$", make.__doc__ or "", re.DOTALL)
    assert listed and tuple(re.split(r",\s*", listed[1])) == SECTIONS
    assert set(make()) | set(NEEDED) <= set(SECTIONS)


@pytest.mark.parametrize("key", sorted(MOVED))
def test_a_key_that_conditions_took_over_names_its_new_place(key):
    config = plain(load_config(DIGITS))
    config["task"][key] = 0.1
    with pytest.raises(
        ValueError, match=rf"^task\.{key} is now in the section conditions: \w+=dict"
    ):
        check_sections(config)


@pytest.mark.parametrize("key", sorted(RENAMED))
def test_a_section_of_another_name_names_it(key):
    says = f"^the section `{key}` is called `{RENAMED[key]}` now$"
    with pytest.raises(ValueError, match=says):
        check_sections({**plain(load_config(DIGITS)), key: {"run": "runs/other"}})


def test_the_text_section_names_its_new_place():
    with pytest.raises(ValueError, match="`text` is now the tower of a condition"):
        check_sections({**plain(load_config(DIGITS)), "text": {"run": "runs/clip"}})
