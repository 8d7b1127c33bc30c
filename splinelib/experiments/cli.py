"""The command line: ``python -m splinelib.experiments list | run | missing | queue | show``."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from splinelib.experiments.claims import done
from splinelib.experiments.config import Experiment
from splinelib.experiments.methods import available
from splinelib.experiments.places import out_folder, work_folder
from splinelib.experiments.queue import NO_DATA, Queue, missing, seconds
from splinelib.experiments.registry import matching
from splinelib.experiments.run import run
from splinelib.experiments.show import show
from splinelib.experiments.sources import MissingDataError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of this process.

    Returns
    -------
    int
        Exit status: 0; 1 for an error, which is told in one line; 3 for a data set that is not at
        hand; 130 for Ctrl-C.
    """
    options = parser().parse_args(arguments)
    try:
        return options.do(options)
    except MissingDataError as error:
        return _fail(error, NO_DATA)
    except (ValueError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped; the next run goes on from the checkpoint", 130)


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="python -m splinelib.experiments", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("list", help="all experiments, and what is recorded of them")
    _common(add, _list, pattern="*")
    add = commands.add_parser("run", help="run one experiment once; a further run adds a seed")
    _common(add, _run, pattern=None)
    add.add_argument("--seed", type=int, help="default: the lowest without a result")
    add.add_argument("--quiet", action="store_true", help="no progress bars")
    add.add_argument(
        "--save-every", type=float, default=60.0, metavar="S", help="seconds between checkpoints"
    )
    _keeping(add)
    add = commands.add_parser("missing", help="experiments with fewer results than they want")
    _common(add, _missing, pattern="*")
    add = commands.add_parser("queue", help="run what is missing until the time is over")
    _common(add, _queue, pattern="*", option="--match")
    add.add_argument("--budget", required=True, help="such as 90s, 25m, 2h")
    add.add_argument("--jobs", type=int, default=1, help="runs side by side; default 1")
    _keeping(add)
    add = commands.add_parser("show", help="ours beside the paper's")
    _common(add, _show, pattern="*")
    return top


def _common(add: argparse.ArgumentParser, do, *, pattern: str | None, option: str = "") -> None:
    """The options that all commands share."""
    name = {"metavar": "NAME", "help": "name, or pattern such as 'vgg16/*/dense'"}
    if option:
        add.add_argument(option, dest="pattern", default=pattern, **name)
    else:
        add.add_argument("pattern", nargs="?" if pattern else None, default=pattern, **name)
    add.add_argument("--out", help="folder of results; default: data/results of the repository")
    add.add_argument("--work", help="folder of checkpoints; default: .work in the results")
    add.add_argument("--root", help="folder of the data sets")
    add.add_argument(
        "--data", action="append", default=[], metavar="NAME=PATH", help="where one data set lies"
    )
    add.add_argument(
        "--as-data",
        action="append",
        default=[],
        metavar="NAME=STAND_IN",
        help="run on another data set, recorded under its own name: cifar10=cifar10-jpeg75",
    )
    add.add_argument("--download", action="store_true", help="fetch official data sets to --root")
    add.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU if there is one")
    add.set_defaults(do=do)


def _keeping(add: argparse.ArgumentParser) -> None:
    add.add_argument(
        "--keep",
        metavar="FOLDER",
        help="keep the final networks, pruned ones as small as they are, as "
        "FOLDER/NAME/seed<k>.pt for splinelib.surgery.load; default: only results are kept",
    )


def _list(options) -> int:
    out = out_folder(options.out)
    for e in _chosen(options):
        state = f"{len(done(e, out, _warn))}/{e.seeds}" if available(e) else "no method yet"
        _say(f"{e.name:<44} {state:<14} {'; '.join(e.cells)}".rstrip())
    return 0


def _run(options) -> int:
    chosen = _chosen(options)
    if len(chosen) > 1:
        raise ValueError(
            f"{options.pattern!r} are {len(chosen)} experiments: name one, or use queue --match"
        )
    path = run(
        chosen[0],
        options.seed,
        out=options.out,
        work=options.work,
        root=options.root,
        places=_places(options),
        download=options.download,
        device=options.device,
        progress=not options.quiet,
        save_every=options.save_every,
        keep=options.keep,
    )
    if path is not None:
        beside = "" if path.stem.count("-") == 0 else " (that seed had a result, which stays)"
        _say(f"{chosen[0].name}: {path}{beside}")
    return 0


def _missing(options) -> int:
    chosen = _chosen(options)
    wanted = missing(chosen, out_folder(options.out), _warn)
    for e, number in wanted:
        _say(f"{e.name:<44} {number} of {e.seeds} seeds missing")
    without = sum(not available(e) for e in chosen)
    _say(
        f"{sum(number for _, number in wanted)} results of {len(wanted)} experiments are missing; "
        f"{without} more experiments need methods that are not in splinelib yet"
    )
    return 0


def _queue(options) -> int:
    out = out_folder(options.out)
    work = work_folder(options.work, out)
    command = _command(options, out, work)
    settings = {"budget": seconds(options.budget), "jobs": options.jobs, "command": command}
    box = Queue(_chosen(options), out, work, say=_say, **settings)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, box.interrupt) for number in signals]
    try:
        report = box.run()
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    _say(
        f"{len(report.finished)} runs finished, {len(report.failed)} failed, "
        f"{len(report.stopped)} stopped on the way"
    )
    return 130 if box.interrupted else 1 if report.failed else 0


def _command(options, out: Path, work: Path) -> Callable[[Experiment], list[str]]:
    """How the queue runs an experiment: with the options that it was given itself."""
    every = min(60.0, max(5.0, seconds(options.budget) / 30))  # what may be lost at the end
    passed = ["--out", str(out), "--work", str(work), "--quiet", "--save-every", f"{every:g}"]
    for name in ("root", "device", "keep"):
        passed += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    passed += ["--download"] if options.download else []
    stand_ins = _pairs(options.as_data, "--as-data")
    named = {e.on(stand_ins[e.data]).name: e for e in matching() if e.data in stand_ins}
    program = [sys.executable, "-m", "splinelib.experiments", "run"]

    def command(e: Experiment) -> list[str]:
        asked = named.get(e.name, e)
        own = [
            part for p in _places(options).get(e.data, ()) for part in ("--data", f"{e.data}={p}")
        ]
        own += ["--as-data", f"{asked.data}={e.data}"] if asked is not e else []
        return [*program, asked.name, *passed, *own]

    return command


def _show(options) -> int:
    if options.data or options.as_data:
        _chosen(options)  # a name that nothing uses is an error here, too
    for line in show(options.pattern, options.out):
        _say(line)
    return 0


def _chosen(options) -> list[Experiment]:
    """The experiments that are asked for, on the data sets that are asked for."""
    stand_ins = _pairs(options.as_data, "--as-data")
    chosen = matching(options.pattern, stand_ins)
    used = sorted({e.data for e in chosen})
    named = [("--as-data", *pair) for pair in stand_ins.items()]
    named += [("--data", name, name) for name in _places(options)]
    for option, name, data in named:
        if data not in used:
            raise ValueError(
                f"{option} {name}=... changes nothing: {options.pattern!r} runs on "
                f"{', '.join(used)}"
            )
    return chosen


def _places(options) -> dict[str, list[str]]:
    """Files by data set; several of one set are its parts."""
    found: dict[str, list[str]] = {}
    for text in options.data:
        name, path = _pair(text, "--data")
        found.setdefault(name, []).append(path)
    return found


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    return dict(_pair(text, option) for text in texts)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise ValueError(f"{option} is {text!r}; give NAME=VALUE")
    return name, value


def _say(text: str) -> None:
    """Write a line; work goes on when whoever read them has gone, as ``head`` does."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the rest goes nowhere, instead of failing again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn(text: str) -> None:
    sys.stderr.write(text + "\n")


def _fail(error: object, status: int) -> int:
    sys.stderr.write(f"{error}\n")
    return status
