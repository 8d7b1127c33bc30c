"""Saving and loading pruned networks: weights, plan and config, and no code."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from types import NoneType

import torch
from torch import nn

from splinelib.nets import build as build_by_name
from splinelib.ops import unwrapped
from splinelib.surgery.cut import Cut
from splinelib.surgery.plan import Plan
from splinelib.surgery.shrink import check_small, check_whole, shrink

FORMAT = "splinelib pruned network 1"
PLAIN = (bool, int, float, str, NoneType)


def save(
    path: str | Path, small: nn.Module, plan: Plan, network: Mapping[str, object] | None = None
) -> None:
    """Save a pruned network.

    Parameters
    ----------
    path : str or Path
        The file. Its folder is made if there is none; a file of this name is replaced as a whole.
    small : nn.Module
        The network that was cut, trained on or not; its weights are saved.
    plan : Plan
        The plan that it was cut by, from a network of the original shape. Of a network that was
        cut twice, ``plan.then(plan2)``.
    network : mapping, optional
        What :func:`splinelib.nets.build` makes a network of the original shape of: ``{"name":
        "vgg16", "classes": 10, ...}``. For a network of your own leave it out, and give ``load`` a
        function that makes one.

    Raises
    ------
    ValueError
        A network that is not what the plan leaves, or a config that builds another one, or is not
        made of numbers, texts, None, and lists of them.

    Notes
    -----
    The file is one that ``torch.load`` reads with ``weights_only=True``: ``state`` (the
    ``state_dict``), ``plan`` (JSON), ``network``, ``frozen`` and ``training``. Taught in *A tour of
    pruning methods*.

    Examples
    --------
    >>> import tempfile
    >>> from splinelib import nets, surgery
    >>> net = nets.build("mlp", 3, in_shape=(4,), hidden=[8])
    >>> keep = {"1": torch.arange(8) < 5}
    >>> small, plan = surgery.cut(net, surgery.group_mask(net, surgery.groups(net), keep))
    >>> network = {"name": "mlp", "classes": 3, "in_shape": [4], "hidden": [8]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/small.pt", small, plan, network)
    ...     again = load(f"{folder}/small.pt")
    >>> again.net[1], again.plan == plan
    (Linear(in_features=4, out_features=5, bias=True), True)
    """
    path, small = Path(path), unwrapped(small)
    if not isinstance(plan, Plan):
        raise ValueError(
            f"plan is a {type(plan).__name__}, but must be the plan that the network was cut by: "
            "save(path, small, plan)."
        )
    check_small(small, plan)
    if network is not None:
        _check_plain("network", network)
        if not {"name", "classes"} <= network.keys():
            raise ValueError(
                f"network is {dict(network)}; it must say what splinelib.nets.build needs: 'name' "
                "and 'classes'."
            )
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn do not matter
            _check_same(small, _shrunk(build_by_name(**network), plan))
    packed, content = io.BytesIO(), _content(small, plan, network)
    torch.save(content, packed)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(packed.getvalue())
    os.replace(part, path)  # the old file or the new one, never a part of one


def load(path: str | Path, build: Callable[[], nn.Module] | None = None) -> Cut:
    """Load a pruned network that ``save`` wrote; no code in the file is run.

    Parameters
    ----------
    path : str or Path
        The file.
    build : callable, optional
        Makes a network of the original shape, ``build()``, whose weights do not matter. Default:
        :func:`splinelib.nets.build` with the config in the file.

    Returns
    -------
    Cut
        The network, on the CPU, with its weights, their type, and its mode (training or evaluation)
        as they were; and its plan.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, holds code, or is no pruned network of splinelib; it has no config and
        there is no ``build``; or the network that is built is another one.

    Examples
    --------
    >>> load("nowhere.pt")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.pt'
    """
    found = _read(Path(path))
    if build is None and found["network"] is None:
        raise ValueError(
            f"{path} does not say which network was cut; give a function that makes one of the "
            "original shape: load(path, build=lambda: MyNet())."
        )
    net = build() if build is not None else build_by_name(**found["network"])
    plan = Plan.from_json(found["plan"])
    small = _shrunk(net, plan)
    try:
        small.load_state_dict(found["state"], assign=True)
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another network: {error}") from error
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in found["frozen"])
    return Cut(small.train(found["training"]), plan)


def _shrunk(net: nn.Module, plan: Plan) -> nn.Module:
    """Cut a network of the original shape; the error names what a second cut needs."""
    net = unwrapped(net)
    try:
        check_whole(net, plan)
    except ValueError as error:
        raise ValueError(
            f"{error} If the network was cut twice, its file needs both cuts as one plan: "
            "save(path, small, plan.then(plan2))."
        ) from error
    return shrink(net, plan)


def _check_same(small: nn.Module, built: nn.Module) -> None:
    """Raise unless two networks are made of the same modules."""
    for here, there in zip_longest(
        *(str(net).splitlines() for net in (small, built)), fillvalue=""
    ):
        if here != there:
            raise ValueError(
                f"network builds another network than the one that was cut: {there.strip()!r} in "
                f"place of {here.strip()!r}; give what made that one, or leave network out and "
                "load(path, build=...)."
            )


def _content(small: nn.Module, plan: Plan, network: Mapping[str, object] | None) -> dict:
    """What is in a file."""
    return {
        "format": FORMAT,
        "state": dict(small.state_dict()),
        "plan": plan.to_json(),
        "network": None if network is None else dict(network),
        "frozen": [name for name, p in small.named_parameters() if not p.requires_grad],
        "training": small.training,
    }


def _read(path: Path) -> dict:
    """Read a file, if it is whole and holds what ``save`` writes."""
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            damaged = parts.testzip()  # torch itself compares no checksums
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no file that torch.save wrote: {error}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: the checksum of its part {damaged!r} is wrong.")
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds code, and not only tensors, numbers and texts; it was not run."
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} holds no pruned network of this version of splinelib ({FORMAT}).")
    return found


def _check_plain(name: str, value: object) -> None:
    """Raise unless a config is made of what can be read back without running code."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_plain(f"{name}[{key!r}]", part)
    elif type(value) in (list, tuple):
        for number, part in enumerate(value):
            _check_plain(f"{name}[{number}]", part)
    elif type(value) not in PLAIN:
        raise ValueError(
            f"{name} is a {type(value).__name__}; a config is made of numbers, texts, None, and "
            "lists and dicts of them (leave a generator and a dtype out: weights keep their type)."
        )
