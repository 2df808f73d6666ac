"""Packaging: `pip install -e .` to run, `pip install -e '.[test]'` to develop.

A wheel holds three packages: diffjax, and configs and experiments, which the command `diffjax`
runs. The latter are general names: give it an environment of its own, where nothing else is called
so (the command says so where something is).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: what diffjax needs may not be installed yet.
VERSION = re.findall(r'^__version__ = "(.+)"$', (ROOT / "diffjax/__init__.py").read_text(), re.M)[0]

RUN = [
    "jax>=0.10",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "tensorflow-datasets>=4.9.8",
    "array_record>=0.8.1",
    "grain>=0.2.15",
    "importlib_resources",  # an undeclared need of tensorflow-datasets when it prepares a set
    "ml-collections>=1.1",
    "absl-py",
    "numpy>=2",
    "annotated-types>=0.7",  # ranges of numbers, declared beside the fields; pure Python
    "scipy",
    "scikit-learn",
    "pillow",
    "fonttools",  # drawings and ligatures of an emoji font; matplotlib needs it too
    "emoji>=2.14",  # Unicode's names of emoji; pure Python
    "tokenizers>=0.22",
    "ftfy>=6.3",  # OpenAI's CLIP was trained on captions that it had cleaned
    "matplotlib",
    "Jinja2",
    "rich",
    "filelock>=3.30",  # the heartbeat that stands in where a file system has no locks
    "safetensors",
    "huggingface_hub",
]
NOTEBOOK = ["nbformat", "nbclient", "ipykernel"]
TEST = [
    "pytest",
    "pytest-xdist",  # a worker for every core
    "tensorboardX",  # the tests read our event files back with it
    "regex",  # the reference tokenizer's patterns
    "ruff",
    "pyright[nodejs]",
    "setuptools>=77",  # a test builds the wheel
    *NOTEBOOK,
]
# torch is pinned: parity figures are stated against this version.
# pytorch-fid and torch-fidelity need torchvision, whose wheels fit one build of torch:
# tests/parity/fid_peers.py says how to install them.
DOCS = ["mkdocs-material>=9.7", "mkdocstrings[python]>=1.0"]
PARITY = [
    "torch==2.13.0",
    "diffusers>=0.42",
    "transformers>=5",
    "sentencepiece>=0.2",
    "torchmetrics>=1.9",
]

setup(
    name="diffjax",
    version=VERSION,
    description="Text-to-image generation research in JAX: one core, every number proved.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["diffjax*", "configs*", "experiments*"]),
    package_data={
        "diffjax": ["py.typed", "reports/templates/*"],
        "configs": ["py.typed"],
        "experiments": ["py.typed"],
    },
    entry_points={"console_scripts": ["diffjax = diffjax.__main__:main"]},
    install_requires=RUN,
    extras_require={
        "notebook": NOTEBOOK,
        "test": TEST,
        "docs": DOCS,
        "parity": PARITY,
        "gpu": ["jax[cuda13]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
    },
)
