"""Networks that are one chain of layers, each of which takes what the one before puts out."""

from torch import nn


def chain(net: nn.Module) -> dict[str, nn.Module]:
    """List the layers of a network that is a chain.

    Parameters
    ----------
    net : nn.Module
        An ``nn.Sequential`` of layers and of more of its kind, such as ``nets.build`` makes under
        the names "mlp", "convnet" and "vgg16".

    Returns
    -------
    dict of str to nn.Module
        The layers by their paths, in order of evaluation.

    Raises
    ------
    ValueError
        A module with branches of its own, or a layer that is used twice; it is named.

    Notes
    -----
    For methods that take a network apart layer by layer, see ``train.layerwise``. Taught in
    *A tour of pruning methods*.

    Examples
    --------
    >>> from splinelib import nets
    >>> list(chain(nets.build("mlp", 2, in_shape=(3,), hidden=[4])))
    ['0', '1', '2', '3']
    >>> chain(nets.build("preresnet20", 10))
    Traceback (most recent call last):
    ...
    ValueError: 'stage1.0' is a Bottleneck, but only a chain of layers can be taken apart: ...
    """
    leaves: dict[str, nn.Module] = {}
    inside = {""} if isinstance(net, nn.Sequential) else set()
    for path, module in net.named_modules(remove_duplicate=False):
        parent = path.rpartition(".")[0]
        if parent not in inside and path:
            continue
        if type(module) is nn.Sequential:
            inside.add(path)
        elif not path or any(True for _ in module.children()):
            raise ValueError(
                f"{path or 'the network'!r} is a {type(module).__name__}, but only a chain of "
                "layers can be taken apart: an nn.Sequential of layers and of more of its kind, as "
                "nets.build makes for 'mlp', 'convnet' and 'vgg16'."
            )
        else:
            leaves[path] = module
    _check_once(leaves)
    return leaves


def _check_once(leaves: dict[str, nn.Module]) -> None:
    """Raise if a layer with numbers stands at two places."""
    seen: dict[int, str] = {}
    for path, module in leaves.items():
        first = seen.setdefault(id(module), path)
        if first != path and any(True for _ in module.parameters()):
            raise ValueError(f"{path!r} is the same layer as {first!r}: give each place its own.")
