"""Clusters of filters: who belongs together, and the mean of each."""

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

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


def _split(labels: Tensor, count: int) -> Tensor:
    """Number the clusters from 0, and split the largest ones until there are enough."""
    labels = labels.unique(return_inverse=True)[1]
    for new in range(int(labels.max()) + 1, count):
        largest = labels.bincount().argmax()
        labels[(labels == largest).nonzero()[-1]] = new
    return labels
