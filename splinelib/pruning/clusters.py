"""Clusters of filters: who belongs together, the mean of each, and one filter for all of them."""

import warnings
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splinelib.folding import columns, rounded, working_copy
from splinelib.pruning.filters import filters
from splinelib.surgery.groups import Group, groups

Clusters = Literal["kmeans", "even"]


class Means:
    """Puts the mean of its cluster in the place of each row.

    Parameters
    ----------
    labels : Tensor (n,) int64
        The cluster of each row, counted from 0.
    like : Tensor
        On the device and in the type of what will be averaged.

    Examples
    --------
    >>> rows = torch.tensor([1.0, 2.0, 5.0])
    >>> Means(torch.tensor([0, 1, 0]), rows)(rows)
    tensor([3., 2., 3.])
    """

    def __init__(self, labels: Tensor, like: Tensor) -> None:
        self.labels = labels.to(like.device)
        members = F.one_hot(labels).T.to(like)
        self.matrix = members / members.sum(1, keepdim=True).clamp_min(1)  # (clusters, n)

    def __call__(self, values: Tensor) -> Tensor:
        """The means of ``(n, ...)``, or of n rows side by side, in the same shape."""
        rows = values.reshape(len(self.labels), -1)
        return (self.matrix @ rows)[self.labels].reshape(values.shape)


def means(values: Tensor, labels: Tensor) -> Tensor:
    """The mean of each cluster of rows ``(n, ...)``, at all its members, once."""
    return Means(labels, values)(values)


def first_of(labels: Tensor) -> Tensor:
    """The first member ``(n,)`` of each channel's cluster.

    >>> first_of(torch.tensor([1, 0, 1, 0]))
    tensor([0, 1, 0, 1])
    """
    return (labels[:, None] == labels).int().argmax(1)


def first(labels: Tensor) -> Tensor:
    """Whether each channel is the first of its cluster, ``(n,)`` bool."""
    return first_of(labels) == torch.arange(len(labels), device=labels.device)


def clusters(points: Tensor, count: int, kind: Clusters = "kmeans", seed: int = 0) -> Tensor:
    """Clusters ``(n,)`` of rows ``(n, d)``, numbered from 0: exactly as many as asked for.

    "kmeans" puts close rows together, "even" those that stand next to each other. Where k-means
    finds fewer clusters than asked for, since rows are equal, the largest ones are split.

    >>> clusters(torch.tensor([[0.0], [9.0], [0.1], [9.1]]), 2, "even")
    tensor([0, 0, 1, 1])
    >>> row = clusters(torch.tensor([[0.0], [9.0], [0.1], [9.1]]), 2)
    >>> bool(row[0] == row[2]), bool(row[1] == row[3]), bool(row[0] == row[1])
    (True, True, False)
    """
    n = len(points)
    if kind == "even" or count == n:
        return torch.arange(n, device="cpu") * count // n
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    values = points.detach().double().cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found = KMeans(n_clusters=count, n_init=10, random_state=seed).fit(values).labels_
    return _split(torch.from_numpy(found).long(), count)


def need_clusters(net: nn.Module, found: Mapping[str, Group], labels: Mapping[str, Tensor]) -> None:
    """Raise a ``ValueError`` unless groups are those of a network, and clusters of their channels.

    Of the wrong network they might fit, and equal filters would be made of the wrong pairs.
    """
    known = [*groups(net).values(), *groups(net, "joint").values()]
    if strange := [name for name, group in found.items() if group not in known]:
        raise ValueError(
            f"{strange[0]!r} is no group of this network: give splinelib.surgery.groups(net), or "
            'groups(net, "joint"), and clusters of its channels.'
        )
    if other := labels.keys() - found.keys():
        raise ValueError(f"there are clusters of {sorted(other)}, which are no groups given.")
    for name, group in found.items():
        row = labels.get(name, torch.zeros(0))
        if row.shape != (group.width,) or row.dtype != torch.int64 or row.min() < 0:
            raise ValueError(
                f"the clusters of {name!r} are {row.dtype} of shape {tuple(row.shape)}: give one "
                f"int64 number from 0 on for each of its {group.width} channels."
            )


def merged(net: nn.Module, found: Mapping[str, Group], labels: Mapping[str, Tensor]) -> nn.Module:
    """Let the first channel of each cluster do the work of all of them, in a copy.

    Rows of layers and BatchNorms become their cluster's mean; the weights that read a cluster are
    added up at its first channel and are 0 at the others.
    """
    net = working_copy(net)
    with torch.no_grad():
        for name, group in found.items():
            for values in all_rows(net, group):
                values.copy_(means(values, labels[name]))
        for name, group in found.items():
            for reader in group.readers:
                read = columns(net, reader, group.width)
                sums = torch.zeros_like(read, dtype=torch.float64)
                sums.index_add_(1, first_of(labels[name]).to(read.device), read.double())
                read.copy_(rounded(sums, read, f"the weights of '{reader.layer}'"))
    return net


def all_rows(net: nn.Module, group: Group) -> list[Tensor]:
    """All that has a row for each channel of a group, running means and variances included."""
    norms = [net.get_submodule(path) for path in group.norms]
    statistics = [s for norm in norms for s in (norm.running_mean, norm.running_var)]
    return [*filters(net, group).values(), *(s for s in statistics if s is not None)]


def _split(labels: Tensor, count: int) -> Tensor:
    """Number the clusters from 0, and split the largest ones until there are enough."""
    labels = labels.unique(return_inverse=True)[1]
    for new in range(int(labels.max()) + 1, count):
        largest = labels.bincount().argmax()
        labels[(labels == largest).nonzero()[-1]] = new
    return labels
