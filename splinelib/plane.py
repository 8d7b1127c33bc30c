"""A plane in the input space: the page on which a partition is drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plane:
    """The points ``x = origin + u_1 basis_1 + u_2 basis_2`` of the input space R^D.

    A network restricted to a plane is again piecewise affine, so its partition can be drawn there
    exactly, whatever D is.

    Attributes
    ----------
    origin : Tensor (D,)
    basis : Tensor (2, D)
        Float64.  ``through`` makes it orthonormal, so that lengths and angles are those of R^D.
    shape : tuple of int
        The shape of one input of the network, of size D.
    marks : Tensor (3, 2), optional
        The coordinates of the three points that ``through`` was given.
    """

    origin: Tensor
    basis: Tensor
    shape: tuple[int, ...]
    marks: Tensor | None = None

    @classmethod
    def through(cls, points: Tensor) -> "Plane":
        """The plane through three points, such as three images.

        Parameters
        ----------
        points : Tensor (3, ...)
            Three inputs that are not on one line.

        Returns
        -------
        Plane
            Its origin is the first point, its first axis points to the second.

        Raises
        ------
        ValueError
            If there are not three points, if they are not finite, or if they are on one line.

        Notes
        -----
        Paper, Fig. 3 (a slice of the image space); taught in *The partition, layer after layer*.

        Examples
        --------
        >>> plane = Plane.through(torch.eye(3))
        >>> plane.marks.round(decimals=3).tolist()
        [[0.0, 0.0], [1.414, 0.0], [0.707, 1.225]]
        """
        if len(points) != 3:
            raise ValueError(
                f"a plane needs three points, shape (3, ...); got {tuple(points.shape)}."
            )
        flat = points.detach().double().reshape(3, -1)
        if not torch.isfinite(flat).all():
            raise ValueError("the three points of a plane must be finite; got NaN or infinity.")
        a, b = flat[1] - flat[0], flat[2] - flat[0]
        length = a.norm()
        first = a / length
        rest = b - (b @ first) * first
        if not rest.norm() > 1e-9 * max(length, b.norm()):
            raise ValueError(
                "the three points are on one line, so many planes go through them; choose a third "
                "point off the line through the first two."
            )
        basis = torch.stack([first, rest / rest.norm()])
        return cls(flat[0], basis, tuple(points.shape[1:]), (flat - flat[0]) @ basis.T)

    def embed(self, u: Tensor) -> Tensor:
        """Points of the input space from their coordinates.  u ``(B, 2)`` -> ``(B, *shape)``."""
        u = torch.as_tensor(u, dtype=torch.float64, device=self.origin.device)
        return (self.origin + u @ self.basis).reshape(-1, *self.shape)

    def coordinates(self, x: Tensor) -> Tensor:
        """Coordinates of the nearest points of the plane.  x ``(B, *shape)`` -> ``(B, 2)``."""
        offset = x.to(self.origin).flatten(1) - self.origin
        return torch.linalg.lstsq(self.basis.T, offset.T).solution.T

    def box(self, margin: float = 0.2) -> tuple[tuple[float, float], tuple[float, float]]:
        """The box around the three marked points, wider by a fraction of its size on every side."""
        if self.marks is None:
            raise ValueError("this plane was not made by Plane.through; give a box yourself.")
        low, high = self.marks.amin(0), self.marks.amax(0)
        pad = margin * (high - low)
        return tuple((low - pad).tolist()), tuple((high + pad).tolist())
