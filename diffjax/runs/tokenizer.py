"""The tokenizer of a run, kept in its workdir: `tokenizer/`."""

from __future__ import annotations

from pathlib import Path

from diffjax.data.tokenizer_joint import AnyTokenizer, load_saved

FOLDER = "tokenizer"


def keep_tokenizer(tokenizer: AnyTokenizer, workdir: Path) -> None:
    """Saves the run's tokenizer in its workdir, whole or, where the run is killed, not at all."""
    kept, aside = workdir / FOLDER, workdir / f".{FOLDER}"
    if not kept.is_dir():
        tokenizer.save(aside)
        aside.rename(kept)


def read_tokenizer(workdir: Path, fingerprint: str) -> AnyTokenizer:
    """The tokenizer that a run has kept.

    Args:
      fingerprint: see `Tokenizer.fingerprint`.

    Raises:
      ValueError: it is missing or damaged, or another one.
    """
    folder = workdir / FOLDER
    found = load_saved(folder)
    if found.fingerprint != fingerprint:
        raise ValueError(
            f"{folder} is another tokenizer ({found.fingerprint}) than the run was trained with "
            f"({fingerprint}): put the old one back"
        )
    return found
