"""Evaluations of images against texts, on towers whose answers are known.

An image spells its factors in its pixels, the tokenizer knows words, and both towers are linear
maps into a space with one axis per word: so a text and an image agree as often as they share words.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.evals import make_evaluator
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.linear_probe import COARSE, choose_regulariser, fit
from diffjax.results import Result

WORDS = {
    "shape": ("circle", "square", "star"),
    "colour": ("red", "blue", "orange", "green"),
    "relation": ("above", "below"),
}
AXES = [word for words in WORDS.values() for word in words]
OTHERS = ["a", "an", "photo", "of", "object", "thing"]
VOCABULARY = [*OTHERS, *AXES]
NAMES = tuple(f"{c} {s}" for s in WORDS["shape"] for c in WORDS["colour"])
LENGTH = 10
ONE, TWO = {"num_objects": 1}, {"num_objects": 2}


def tokenize(texts):
    """Numbers of the words, `[N, LENGTH]`, 0 after the last."""
    rows = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in zip(rows, texts, strict=True):
        words = text.rstrip(".").split()
        row[: len(words)] = [1 + VOCABULARY.index(w) for w in words]
    return rows


def detokenize(rows):
    return [" ".join(VOCABULARY[i - 1] for i in row if i) for row in rows]


def scenes(repeats: int):
    """Every pair of shape and colour alone, `repeats` times, then as many scenes of two."""
    alone = np.tile(np.arange(len(NAMES)), repeats)
    first, second = np.divmod(np.concatenate([alone, alone]), 4), np.divmod(alone + 5, 4)
    count = len(alone)
    none = np.full(count, -1)
    shape = np.stack([first[0], np.concatenate([none, second[0] % 3])], 1)
    colour = np.stack([first[1], np.concatenate([none, second[1]])], 1)
    relation = np.concatenate([none, np.arange(count) % 2])
    pixels = np.zeros((2 * count, 48), np.float32)
    for i in range(2 * count):
        pixels[i, shape[i, 0]] = pixels[i, 3 + colour[i, 0]] = 1
        if relation[i] >= 0:
            pixels[i, 7 + relation[i]] = 1
    names = [f"a {NAMES[p]}" for p in np.concatenate([alone, alone])]
    # Scenes of two are labelled wrongly, so that an evaluation which counts them shows it.
    label = np.concatenate([alone, (alone + 1) % len(NAMES)]).astype(np.int32)
    return {
        "image": pixels.reshape(-1, 4, 4, 3),
        "label": label,
        "tokens": tokenize(names),
        "shape": shape,
        "colour": colour,
        "relation": relation,
        "num_objects": np.repeat([1, 2], count),
    }


def encode_image(variables, image):
    return image.reshape(len(image), -1) @ variables["image"]


def encode_text(variables, tokens):
    return variables["text"][tokens].sum(axis=1)


PERFECT = {
    "image": jnp.eye(48, len(AXES)),
    "text": jnp.concatenate([jnp.zeros((1 + len(OTHERS), len(AXES))), jnp.eye(len(AXES))]),
}
CONSTANT = {
    "image": jnp.zeros((48, len(AXES))),
    "text": jnp.zeros((1 + len(VOCABULARY), len(AXES))),
}


@pytest.fixture(scope="module")
def context():
    fns = {"encode_image": encode_image, "encode_text": encode_text}
    return EvalContext(
        fns,
        scenes(10),
        scenes(2),
        class_names=NAMES,
        others={"few": {k: v[:5] for k, v in scenes(1).items()}},
        factors=WORDS,
        tokenize=tokenize,
        detokenize=detokenize,
    )


def run(type, context, variables=PERFECT, /, **kw):
    """(value by name, pictures by name)."""
    out = list(make_evaluator(type, context, batch_size=16, **kw).run(variables))
    values = {s.name: s.value for s in out if isinstance(s, Result)}
    pictures = {p.name: p.image for p in out if isinstance(p, Picture)}
    assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3 for p in pictures.values())
    assert all(s.protocol["hash"] for s in out if isinstance(s, Result))
    return values, pictures


# Zero-shot classification.


def test_a_perfect_tower_names_every_class(context):
    values, pictures = run("zero_shot", context, where=ONE)
    assert values["accuracy"] == values["top5"] == values["accuracy_high"] == 1
    assert 0.8 < values["accuracy_low"] < 1  # of 24
    assert set(pictures) == {"confusion"}


def test_a_constant_tower_names_one_class(context):
    values, _ = run("zero_shot", context, CONSTANT, where=ONE)
    assert values["accuracy"] == 1 / 12 and values["top5"] == 5 / 12


def test_only_the_examples_asked_for_count(context):
    assert run("zero_shot", context)[0]["accuracy"] == 0.5
    assert run("zero_shot", context, where=TWO)[0]["accuracy"] == 0
    assert run("zero_shot", context, split="few", where=ONE)[0]["accuracy"] == 1


def test_a_class_is_the_mean_of_its_prompts(context):
    """A second prompt of another word draws every class towards it alike, and turns none."""
    spoiled = {**PERFECT, "text": PERFECT["text"].at[1 + VOCABULARY.index("thing")].set(0.3)}
    templates = ("a {}", "a {} thing")
    assert run("zero_shot", context, spoiled, where=ONE, templates=templates)[0]["accuracy"] == 1
    evaluator = make_evaluator("zero_shot", context, templates=templates)
    rows = evaluator.towers.classes(spoiled, [[t.format(n) for t in templates] for n in NAMES])
    for row, name in zip(rows, NAMES, strict=True):
        bare = np.isin(AXES, name.split()) / np.sqrt(2)
        other = np.isin(AXES, name.split()) + 0.3
        mean = bare + other / np.linalg.norm(other)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5)


def test_names_in_another_order_are_other_classes(context):
    values, _ = run("zero_shot", context, where=ONE, class_names=NAMES[1:] + NAMES[:1])
    assert values["accuracy"] == 0


@pytest.mark.parametrize("articles", [True, False])
def test_an_article_is_changed_where_it_is_asked_for(context, articles):
    said = []

    def listen(texts):
        said.extend(texts)
        return tokenize(texts)

    heard = dataclasses.replace(context, tokenize=listen)
    run("zero_shot", heard, templates=("a {}.",), articles=articles)
    first = "an orange circle." if articles else "a orange circle."
    assert first in said and "a red star." in said and len(said) == len(NAMES)


TWICE = ("red circle", *NAMES[1:4], "red circle", *NAMES[5:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_names": TWICE}, "zero_shot: 'red circle' stands more than once"),
        ({"class_names": ("", *NAMES[1:])}, "zero_shot: name 0 is empty"),
        ({"class_names": (*NAMES[:3], " ", *NAMES[4:])}, "zero_shot: name 3 is empty"),
        ({"class_names": NAMES[:4]}, "label 11, but 4 class names"),
        ({"templates": ("a photo",)}, "template 'a photo' must hold one {}"),
        ({"templates": ("a {} {}",)}, "template 'a {} {}' must hold one {}"),
        ({"templates": ("a {} {colour}",)}, "template 'a {} {colour}' must hold one {}"),
        ({"templates": ()}, "no prompt templates"),
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"where": {"num_object": 1}}, "'num_object'; did you mean 'num_objects'"),
        ({"where": {"shape": 1}}, "unknown field of `where`: 'shape'"),
        ({"where": {"num_objects": 3}}, "no example of split 'test' has {'num_objects': 3}"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_run(context, options, said):
    with pytest.raises(ValueError) as error:
        make_evaluator("zero_shot", context, **options)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("type", "options"),
    [
        ("zero_shot", {}),
        ("retrieval", {}),
        ("arithmetic", {"factors": {"shape": "a {}"}, "where": ONE}),
        ("questions", {"questions": {"x": {"factor": "shape", "caption": "a {answer}"}}}),
    ],
)
def test_text_needs_a_tokenizer_and_two_towers(context, type, options):
    make_evaluator(type, context, **options)
    with pytest.raises(ValueError, match="give the config a `tokenizer` section"):
        make_evaluator(type, dataclasses.replace(context, tokenize=None), **options)
    one = dataclasses.replace(context, predict_fns={"encode_image": encode_image})
    with pytest.raises(ValueError, match="unknown predict function 'encode_text'"):
        make_evaluator(type, one, **options)


@pytest.mark.parametrize("type", ["zero_shot", "linear_probe"])
def test_data_without_labels_are_told_at_once(context, type):
    bare = {k: v for k, v in context.test.items() if k != "label"}
    with pytest.raises(ValueError, match=f"{type}: the data of split 'test' have no labels"):
        make_evaluator(type, dataclasses.replace(context, test=bare))


# Retrieval.


def test_a_perfect_tower_finds_every_pair(context):
    values, pictures = run("retrieval", context, where=ONE, at=(1, 2))
    names = [f"{way}_r{k}" for way in ("text_to_image", "image_to_text") for k in (1, 2)]
    assert values == dict.fromkeys(names, 1.0)
    assert set(pictures) == {"text_to_image"}


def test_a_constant_tower_finds_nothing(context):
    """Eleven wrong texts go first among equals, and 22 wrong images."""
    values, _ = run("retrieval", context, CONSTANT, where=ONE, at=(11, 12, 22, 23))
    assert [values[f"image_to_text_r{k}"] for k in (11, 12)] == [0, 1]
    assert [values[f"text_to_image_r{k}"] for k in (22, 23)] == [0, 1]


def test_equal_captions_are_one_text(context):
    """Images of a caption are all right answers: colour-blind towers find one of four texts."""
    blind = {**PERFECT, "text": PERFECT["text"].at[:, 3:7].set(0)}
    values, _ = run("retrieval", context, blind, where=ONE, at=(1, 4))
    assert values["image_to_text_r1"] == 0 and values["image_to_text_r4"] == 1
    (scalar, *_) = make_evaluator("retrieval", context, where=ONE).run(PERFECT)
    assert scalar.protocol["num_images"] == 24 and scalar.protocol["num_texts"] == 12


def test_retrieval_says_what_it_lacks(context):
    bare = {k: v for k, v in context.test.items() if k != "tokens"}
    with pytest.raises(ValueError, match=r"split 'test' has no tokens: .*eval_transforms"):
        make_evaluator("retrieval", dataclasses.replace(context, test=bare))
    with pytest.raises(ValueError, match=r"at\[0\]=0 must be at least 1"):
        make_evaluator("retrieval", context, at=(0, 5))


def test_neighbours_share_their_class(context):
    """Of an image alone, its twin is the nearest; of colours alone, it need not be."""
    values, pictures = run("neighbours", context, where=ONE)
    assert values == {"same_class": 1.0} and set(pictures) == {"neighbours"}
    blind = {**PERFECT, "image": PERFECT["image"].at[:3].set(0)}
    assert run("neighbours", context, blind, where=ONE)[0]["same_class"] < 0.5


def test_an_image_is_not_its_own_neighbour(context):
    """Five images have four neighbours each, however many are asked for; no text is read."""
    bare = dataclasses.replace(context, tokenize=None)

    def picture(shown):
        return run("neighbours", bare, split="few", shown=shown)[1]["neighbours"]

    three, four = picture(3), picture(4)
    assert four.shape[1] == three.shape[1] + 59  # a tile of 56 pixels and its gap
    np.testing.assert_array_equal(picture(9), four)
    with pytest.raises(ValueError, match="a single image has no neighbour"):
        make_evaluator("neighbours", context, split="few", where={"label": 0})


# The linear probe.


def test_the_probe_separates_what_is_separable(context):
    values, _ = run("linear_probe", context, where=ONE, iterations=50)
    assert values["accuracy"] == 1
    assert COARSE[0] <= values["regulariser"] <= COARSE[-1]
    blind = run("linear_probe", context, CONSTANT, where=ONE, iterations=50)[0]
    assert blind["accuracy"] == 1 / 12


def test_the_regulariser_fits_the_noise():
    """Few examples in many directions of pure noise want a strong one, clean ones a weak one: and
    the chosen one is better on new examples than either end of the grid."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=40) / np.sqrt(40)

    def draw(count):
        x = rng.normal(size=(count, 40))
        return x, (x @ direction + 0.7 * rng.normal(size=count) > 0).astype(int)

    (x, y), (new_x, new_y) = draw(300), draw(4000)
    chosen = choose_regulariser(x, y, 0.3, 200)
    exponent = np.log10(chosen) * 8
    assert exponent == pytest.approx(round(exponent))
    score = {c: (fit(x, y, c, 200).predict(new_x) == new_y).mean() for c in (chosen, 1e6)}
    assert score[chosen] > score[1e6] and chosen < 10
    clean = (x @ direction > 0).astype(int)
    assert choose_regulariser(x, clean, 0.3, 200) > chosen


def test_few_examples_are_drawn_from_all_classes(context):
    """Data sorted by class: the first 24 of 120 would be of three classes."""
    order = np.argsort(context.train["label"], kind="stable")
    ordered = {k: v[order] for k, v in context.train.items()}
    evaluator = make_evaluator(
        "linear_probe", dataclasses.replace(context, train=ordered), limit=24, where=ONE
    )
    label = evaluator._train()["label"]
    assert len(label) == 24 and len(np.unique(label)) > 6
    with pytest.raises(ValueError, match="of one class"):
        make_evaluator("linear_probe", context, where={"label": 0})
    with pytest.raises(ValueError, match=r"validation=1.0 must be less than 1"):
        make_evaluator("linear_probe", context, validation=1.0)


# Arithmetic and questions.

PROMPTS = {"shape": "a {}", "colour": "a {} object"}


def test_additive_embeddings_name_every_factor(context):
    values, _ = run("arithmetic", context, where=ONE, factors=PROMPTS)
    assert values == dict.fromkeys(("word_shape", "word_colour", "word", "factor"), 1.0)


def test_one_factor_may_stand_alone(context):
    """Nothing else is known to agree, so differences of shape come with others."""
    values, _ = run("arithmetic", context, where=ONE, factors={"shape": "a {}"})
    assert values == dict.fromkeys(("word_shape", "word", "factor"), 1.0)


def test_a_constant_tower_names_factors_by_chance(context):
    """Always the first word: right for the pairs of shapes that begin with a circle, a third."""
    kw = {"split": "train", "where": ONE, "factors": PROMPTS, "pairs": 1000}
    values, _ = run("arithmetic", context, CONSTANT, **kw)
    assert values["word_colour"] == 0 and 0.25 < values["word_shape"] < 0.42
    assert values["factor"] == 0.5


def test_words_of_swapped_colours_are_told(context):
    """Texts that call red blue and blue red: those words are wrong, their factor is right."""
    red, blue = (1 + VOCABULARY.index(c) for c in ("red", "blue"))
    swapped = jnp.arange(1 + len(VOCABULARY)).at[red].set(blue).at[blue].set(red)
    variables = {**PERFECT, "text": PERFECT["text"][swapped]}
    values, _ = run("arithmetic", context, variables, where=ONE, factors=PROMPTS, pairs=10**6)
    assert values["factor"] == values["word_shape"] == 1
    assert 0.3 < values["word_colour"] < 0.7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factors": {"shap": "a {}"}}, "did you mean 'shape'"),
        ({"factors": {"shape": "a circle"}}, "must hold one {}"),
        ({"factors": {}}, "no prompt templates"),
        ({"factors": {"relation": "{}"}}, "some examples have no 'relation'"),
        ({"factors": PROMPTS, "where": {"label": 0}}, "no two examples differ in 'shape' alone"),
    ],
)
def test_arithmetic_says_what_is_wrong(context, options, said):
    with pytest.raises(ValueError) as error:
        make_evaluator("arithmetic", context, **{"where": ONE, **options})
    assert said in str(error.value) and "\n" not in str(error.value)


QUESTIONS = {
    "colour": {"factor": "colour", "caption": "a {answer} {shape[0]}", "where": ONE},
    "shape": {"factor": "shape", "caption": "a {answer}"},
    "relation": {
        "factor": "relation",
        "caption": "a {shape[0]} {answer} a {colour[1]} {shape[1]}",
        "where": TWO,
    },
}


def test_a_perfect_tower_answers_every_question(context):
    assert run("questions", context, questions=QUESTIONS)[0] == dict.fromkeys(QUESTIONS, 1.0)


def test_a_constant_tower_always_gives_the_first_answer(context):
    values, _ = run("questions", context, CONSTANT, questions=QUESTIONS)
    assert values["colour"] == pytest.approx(1 / 4) and values["shape"] == pytest.approx(1 / 3)
    assert values["relation"] == 0.5


def test_a_question_is_asked_of_so_many(context):
    (scalar,) = make_evaluator(
        "questions", context, questions={"shape": QUESTIONS["shape"]}, limit=7
    ).run(PERFECT)
    assert scalar.protocol["num_images"] == 7


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"factor": "shape"}, "questions.x needs 'caption'"),
        ({"caption": "{answer}"}, "questions.x needs 'factor'"),
        ({"factor": "shap", "caption": "{answer}"}, "did you mean 'shape'"),
        ({"factor": "shape", "caption": "a {answr}"}, "holds no {answer}"),
        ({"factor": "shape", "caption": "{answer}", "were": ONE}, "did you mean 'where'"),
        ({"factor": "shape", "caption": "{answer} {color[0]}"}, "KeyError: 'color'"),
        ({"factor": "shape", "caption": "{answer} {colour[1]}"}, "does not fit example"),
        ({"factor": "shape", "caption": "{answer} {"}, "does not fit example"),
        ({"factor": "relation", "caption": "{answer}"}, "some examples have no 'relation'"),
        ({"factor": "shape", "caption": "{answer}", "where": {"x": 1}}, "field of `where`: 'x'"),
    ],
)
def test_a_wrong_question_is_one_line(context, question, said):
    with pytest.raises(ValueError) as error:
        make_evaluator("questions", context, questions={"x": question})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_factors_are_of_the_data_that_have_them(context):
    bare = {k: v for k, v in context.test.items() if k != "colour"}
    with pytest.raises(ValueError, match="factor of these data 'colour'"):
        make_evaluator(
            "arithmetic", dataclasses.replace(context, test=bare), where=ONE, factors=PROMPTS
        )
