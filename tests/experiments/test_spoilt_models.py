"""Drawing from released folders whose numbers, sizes or names are spoilt."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.evals.features import to_uint8
from diffjax.evals.pictures import tile_grid
from experiments.one_line import one_line
from experiments.released import stable_diffusion_pipeline
from tests.experiments.test_sample import folder, run  # noqa: F401  (fixtures)

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def spoilt(folder, tmp_path):  # noqa: F811
    """A copy of the folder."""
    return shutil.copytree(folder, tmp_path / "spoilt")


@pytest.mark.heavy
def test_pictures_that_are_not_finite_are_not_written(spoilt, run, tmp_path):  # noqa: F811
    """Weights that are finite, but whose products are not."""
    weights = load_file(spoilt / UNET)
    save_file({k: v * 1e25 if k.startswith("conv_out") else v for k, v in weights.items()},
              spoilt / UNET)  # fmt: skip
    before = set(tmp_path.rglob("*.png"))
    with pytest.raises(ValueError, match="of the pictures are not finite, so nothing is written"):
        run(model=str(spoilt), prompt=["a red cube"], num=1, steps=2)
    assert set(tmp_path.rglob("*.png")) == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_picture(bad):
    tiles = np.zeros((1, 2, 4, 4, 3), np.float32)
    tile_grid(tiles)
    tiles[0, 1, 2, 3, 0] = bad
    for draw in (tile_grid, to_uint8, lambda x: to_uint8(x, "floor")):
        with pytest.raises(ValueError, match="1 of 96 values of the pictures are not finite"):
            draw(tiles)


def test_a_size_that_is_a_list_is_height_and_width(spoilt):
    file = spoilt / "unet" / "config.json"
    config = json.loads(file.read_text())
    for size, pixels in ((8, (16, 16)), ([8, 12], (16, 24)), (None, (128, 128))):
        file.write_text(json.dumps({**config, "sample_size": size}))
        assert stable_diffusion_pipeline(str(spoilt)).image_shape == (*pixels, 3)


def test_another_models_tokenizer_is_refused(spoilt):
    """Ids beyond the tower's table would draw what nobody asked for."""
    train_tokenizer(["a red cube on a blue ball, over it a green cone"], 560, style="hf").save(
        spoilt / "tokenizer"
    )
    with pytest.raises(ValueError, match="tokens, but the text tower knows"):
        stable_diffusion_pipeline(str(spoilt))


def test_a_tower_tells_its_tokenizer_how_long_a_text_is(spoilt):
    file = spoilt / "tokenizer" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    for length in (10**30, 5, None, 10**6):
        file.write_text(json.dumps({**config, "model_max_length": length}))
        tokenize = stable_diffusion_pipeline(str(spoilt)).tokenize
        assert tokenize(["a"]).shape == (1, 12)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", '{"model_max_length": "many"}'),
        ("tokenizer_config.json", '{"model_max_length": NaN}'),
        ("tokenizer_config.json", '{"diffjax": [1]}'),
        ("tokenizer_config.json", '{"diffjax": {"contexts": 3}}'),
        ("tokenizer_config.json", "[" * 10**5),
        ("vocab.json", '{"a": "b"}'),
        ("vocab.json", '{"a": 1, "a": 2}'),
        ("vocab.json", "[]"),
        ("vocab.json", '{"a": {}}'),
        ("vocab.json", '{"a": 1e400}'),
        ("merges.txt", "\x1b[2J" * 1000),
    ],
)
def test_a_tokenizers_files_are_checked(file, content, spoilt):
    (spoilt / "tokenizer" / file).write_text(content)
    with pytest.raises(ValueError, match="tokenizer") as caught:
        stable_diffusion_pipeline(str(spoilt))
    line = one_line(caught.value)
    assert line.isprintable() and len(line) < 600


def test_an_error_steers_no_terminal():
    said = one_line("a\x1b]0;owned\x07 \x1b[2J\u202e\ud800\n\tb\x00 é 日本")
    assert said == r"a\x1b]0;owned\x07 \x1b[2J\u202e\ud800 b\x00 é 日本"
    assert one_line(ValueError("x" * 10**6)) == "x" * 2000 + "..."
