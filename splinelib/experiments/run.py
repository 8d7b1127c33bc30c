"""One run: claim a seed, make the images, do what the method says, record what came out."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from splinelib import cost, surgery, train
from splinelib.experiments import provenance
from splinelib.experiments.claims import claim
from splinelib.experiments.config import Experiment
from splinelib.experiments.images import images
from splinelib.experiments.job import Job, Outcome
from splinelib.experiments.methods import method
from splinelib.experiments.places import out_folder, work_folder
from splinelib.experiments.record import FORMAT, rounded, write
from splinelib.experiments.sources import Places
from splinelib.masks import Mask

MANY = 20  # classes from which on the five best answers are counted too


def run(
    experiment: Experiment,
    seed: int | None = None,
    *,
    out: str | os.PathLike | None = None,
    work: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
    places: Places | None = None,
    download: bool = False,
    device: torch.device | str | None = None,
    progress: bool = False,
    save_every: float = 60.0,
    keep: str | os.PathLike | None = None,
) -> Path | None:
    """Run an experiment once and record the result.

    Parameters
    ----------
    experiment : Experiment
        From :func:`splinelib.experiments.get`, or your own.
    seed : int, optional
        Default: the lowest without a result that nobody is running.
    out : path, optional
        Folder of all results. Default: ``data/results`` of the repository, else ``./results``.
    work : path, optional
        Folder of checkpoints and locks. Default: ``.work`` in ``out``.
    root, places, download
        Where the data lie, as for ``sources.load``.
    device : torch.device, optional
        Default: a GPU if there is one.
    progress : bool
        Show a bar for each training, with the time that is left, loss and accuracy.
    save_every : float
        Seconds between checkpoints.
    keep : path, optional
        Folder for the final network, ``<keep>/<name>/seed<k>.pt``, cut as it is, for
        ``splinelib.surgery.load``. Named as the result's file is. Default: it is not kept.

    Returns
    -------
    Path or None
        The file of the result; None in processes of ``torchrun`` other than the first.

    Raises
    ------
    ValueError
        A method that splinelib does not have, data that are not there, a seed that is being run.
    OSError
        A disk that is full; nothing is lost then, see ``record.write``.

    Notes
    -----
    A run that was stopped at any moment goes on from its checkpoint when the same experiment is run
    again with the same folders: in the middle of a training, or of a long search (GAL's loop, the
    candidates of LeGR and MetaPruning). Scores and cuts are computed again. Checkpoints are removed
    when the result is written. Used in *Drawing the ticket*.
    """
    do = method(experiment)  # before any data are loaded
    _check(seed, device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and seed is None:
        raise ValueError("several processes cannot agree on a seed by themselves: give --seed")
    out = out_folder(out)
    work = work_folder(work, out)
    device = torch.device(device) if device else train.own_device()
    if int(os.environ.get("RANK", 0)) > 0:  # torchrun: the first process records
        do(_job(experiment, seed, work, device, root, places, False, False, save_every))
        return None
    with claim(experiment, out, work, seed) as number:
        job = _job(experiment, number, work, device, root, places, download, progress, save_every)
        begun = {"code": provenance.code(), "started": _started(job.folder)}
        with cost.Meter(device) as meter:
            worked = time.process_time()
            outcome = do(job)
            worked = time.process_time() - worked
        path = write(_result(job, outcome, meter, worked, begun), out)
        if keep is not None:
            _keep(job, outcome, Path(keep, *experiment.name.split("/"), f"{path.stem}.pt"))
        shutil.rmtree(job.folder, ignore_errors=True)
    return path


def _keep(job: Job, outcome: Outcome, path: Path) -> None:
    """Save the final network with what builds it and how it was cut, if it was."""
    plan = outcome.plan or surgery.plan(outcome.net, Mask({}))
    path.parent.mkdir(parents=True, exist_ok=True)
    surgery.save(path, outcome.net, plan, job.network_config)


def _job(experiment, seed, work, device, root, places, download, progress, save_every) -> Job:
    """Load the images and find the folder of the run, which its config and seed alone decide."""
    found = images(experiment, seed, device=device, root=root, places=places, download=download)
    folder = work.joinpath(*experiment.name.split("/"), f"seed{seed}-{experiment.key}")
    folder.mkdir(parents=True, exist_ok=True)
    return Job(experiment, seed, found, device, folder, cost.Ledger(), progress, save_every)


def _check(seed: int | None, device: object) -> None:
    """Raise unless a seed is a whole number from 0 on, and the device is there."""
    if seed is not None and (type(seed) is not int or seed < 0):
        raise ValueError(f"seed is {seed!r}; give a whole number from 0 on")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(f"no device {device!r} here ({reason}): try cpu or cuda") from error


def _started(folder: Path) -> str:
    """When the first part of a run began, in UTC; kept beside its checkpoints."""
    note, form = folder / "started", "%Y-%m-%dT%H:%M:%SZ"
    try:
        return datetime.strptime(note.read_text().strip(), form).strftime(form)
    except (FileNotFoundError, ValueError):  # none yet, or one that was not written to its end
        now = datetime.now(UTC).strftime(form)
        note.write_text(now)
        return now


def _result(job: Job, outcome: Outcome, meter: cost.Meter, worked: float, begun: dict) -> dict:
    """Everything about a run, as result.schema.json wants it."""
    e, net = job.experiment, outcome.net
    accuracy, top5 = shares_right(net, job.test())
    plan = job.speed.resolve(net)
    where = provenance.device(job.device) | {"precision": plan.precision, "compiled": plan.mode}
    result = {
        "schema": FORMAT,
        "name": e.name,
        "seed": job.seed,
        "config": e.to_json(),
        "data": job.images.told,
        "code": begun["code"],
        "libraries": provenance.libraries(),
        "device": where,
        "started": begun["started"],
        "accuracy": accuracy,
        "top5": top5,
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": job.macs(net),
        **_costs(job, outcome, meter, worked),
        "log": _log(outcome),
        "distances": outcome.distances,
        "outcome": dict(outcome.told),
    }
    exact = {"config": result.pop("config")}  # what was asked for; the rest was measured
    return exact | rounded({k: v for k, v in result.items() if v is not None and v != {}})


def _costs(job: Job, outcome: Outcome, meter: cost.Meter, worked: float) -> dict:
    """What a run took; processor's time and energy only of a run that was never interrupted."""
    measured = meter.to_dict()
    seconds = sum(part.seconds for part in outcome.runs) + outcome.seconds
    whole = meter.seconds >= 0.99 * seconds
    return {
        "flops": {
            "total": job.ledger.total,
            "watching": outcome.watching,
            "rows": job.ledger.rows,
        },
        "seconds": seconds,
        "cpu_seconds": worked if whole else None,
        "energy": measured["energy"] if whole and provenance.alone() else cost.meter.NOT_MEASURED,
        "peak_memory": measured["peak_memory"],
    }


def shares_right(net: nn.Module, source) -> tuple[float, float | None]:
    """Share of test images whose class is the first answer; and among the first five.

    The latter is None for fewer than ``MANY`` classes. Computed in the network's own type.
    """
    net.eval()
    best, right = min(5, len(source.classes)), [0, 0]
    for x, y in source.epoch(0):
        with torch.no_grad():
            hits = net(x).topk(best, dim=1).indices == y[:, None]
        right[0] += int(hits[:, 0].sum())
        right[1] += int(hits.sum())
    shares = [n / source.images for n in right]
    return shares[0], shares[1] if len(source.classes) >= MANY else None


def _log(outcome: Outcome) -> list[dict]:
    """The lines of all trainings one after another; each says which, if there are several.

    Of what watchers tell, under their names, only the distance is kept: the rest stands elsewhere.
    """
    lines = []
    for number, part in enumerate(outcome.runs):
        named = {"run": number} if len(outcome.runs) > 1 else {}
        lines += [named | _told(row) for row in part.log]
    return lines


def _told(row: dict) -> dict:
    """One line, without what an epoch does not have."""
    told = {}
    for name, value in row.items():
        if isinstance(value, dict):
            name, value = f"distance {name}", value["distance"]
        if value is not None:
            told[name] = value
    return told
