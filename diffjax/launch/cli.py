"""Start of every main: absl flags, config overrides, one-line errors."""

from __future__ import annotations

import logging as stdlib_logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from diffjax.launch import distributed
from diffjax.launch.one_line import one_line
from diffjax.launch.settings import PREFIX
from diffjax.train.checkpoint import SaveError
from diffjax.train.guard import NonFiniteError
from diffjax.train.loop import Preempted

_overrides: list[str] = []
_arguments: list[str] = []
# What a user can mend, by exit code: 2 bad input, 3 the run failed, 143 stopped by SIGTERM.
ERRORS: dict[type[Exception], int] = {
    ValueError: 2,
    FileNotFoundError: 2,
    FileExistsError: 2,
    NotADirectoryError: 2,
    IsADirectoryError: 2,
    PermissionError: 2,
    SaveError: 3,
    NonFiniteError: 3,
    Preempted: 143,
    OSError: 3,
}


def overrides() -> list[str]:
    """The `--config.a.b=value` arguments of this process, without their prefix."""
    return list(_overrides)


def arguments() -> list[str]:
    """Arguments of the command line without a flag."""
    return list(_arguments)


def _parse(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    rest = [a for a in argv if not a.startswith(PREFIX)]
    _overrides[:] = [a.removeprefix(PREFIX) for a in argv if a.startswith(PREFIX)]
    try:
        extra = flags.FLAGS(rest)
    except flags.Error as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    _arguments[:] = extra[1:]
    if len(_arguments) > len(names):
        surplus = _arguments[len(names)]
        said = one_line(f"unexpected argument {surplus!r} (flags begin with --)")
        print(f"error: {said}", file=sys.stderr)
        sys.exit(2)
    missing = [name for name in names[len(_arguments) :] if not name.startswith("[")]
    if missing:
        print(f"error: give {' and '.join(missing)}: {' '.join(names)}", file=sys.stderr)
        sys.exit(2)
    return extra


def _hush() -> None:
    """Keeps others from telling at length what is told in one line.

    Orbax logs, with its traceback, each error that it also raises, from several threads, and
    asyncio its tasks and the futures beside the one whose error was raised; a TensorStore write
    that fails calls back into an event loop that is gone.
    """

    def told_elsewhere(record: stdlib_logging.LogRecord) -> bool:
        message = f"{record.pathname} {record.getMessage()}"
        others = "orbax" in message or "exception was never retrieved" in message
        return not (record.levelno >= stdlib_logging.ERROR and others)

    def unraisable(args: Any) -> None:
        if "Event loop is closed" not in str(args.exc_value):
            before(args)

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    for logger in (logging.get_absl_logger(), stdlib_logging.getLogger("asyncio")):
        logger.addFilter(told_elsewhere)


def run_main(main: Callable[[], None], names: Sequence[str] = ()) -> None:
    """Parses the command line and runs `main`; an error that a user can mend is one line on
    stderr (its traceback is shown under `--verbosity=1`).

    `names` are of the arguments that stand without a flag, "[in brackets]" where one may be left
    out; see `arguments`.
    """

    def guarded(_: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            _hush()
        # Orbax tells of every file it touches at INFO, absl's default.
        logging.set_verbosity(flags.FLAGS.verbosity if flags.FLAGS["verbosity"].present else -1)
        try:
            main()
        except tuple(ERRORS) as error:
            logging.debug("traceback of the error below", exc_info=True)
            code = next(c for kind, c in ERRORS.items() if isinstance(error, kind))
            distributed.leave(error, code)
            print(f"error: {one_line(error)}", file=sys.stderr)
            sys.exit(code)
        except Exception as error:
            distributed.leave(error, 1)
            raise

    app.run(guarded, flags_parser=lambda argv: _parse(argv, names))
