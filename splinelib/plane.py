"""A plane in the input space: the page on which a partition is drawn."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Plane:
    """The points ``x = origin + u_1 basis_1 + u_2 basis_2`` of the input space R^D.

    A network restricted to a plane is again piecewise affine, so its partition can be drawn there
    exactly, whatever D is.

    Attributes
    ----------
    origin : Tensor (D,)
    basis : Tensor (2, D)
        Two directions, not parallel.  ``through`` makes them orthonormal, so that lengths and
        angles are those of R^D.  Both are kept in float64.
    shape : tuple of int
        The shape of one input of the network, of size D.
    marks : Tensor (3, 2), optional
        The coordinates of the three points that ``through`` was given.
    """

    origin: Tensor
    basis: Tensor
    shape: tuple[int, ...]
    marks: Tensor | None = None

    def __post_init__(self) -> None:
        origin, basis = (
            torch.as_tensor(v).detach().double().clone() for v in (self.origin, self.basis)
        )
        size = math.prod(self.shape)
        if origin.shape != (size,) or basis.shape != (2, size):
            raise ValueError(
                f"inputs of shape {tuple(self.shape)} need an origin ({size},) and a basis (2, "
                f"{size}); got {tuple(origin.shape)} and {tuple(basis.shape)}."
            )
        if not (torch.isfinite(origin).all() and torch.isfinite(basis).all()):
            raise ValueError("origin and basis of a plane must be finite; got NaN or infinity.")
        first, second = basis / basis.abs().amax(1, keepdim=True).clamp(min=1e-300)
        rest = second - (second @ first) / (first @ first).clamp(min=1e-300) * first
        if not rest.norm() > 1e-9:
            raise ValueError("the two directions of a plane are parallel or zero; give others.")
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "basis", basis)

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
        points = (
            torch.stack(list(points)) if isinstance(points[0], Tensor) else torch.as_tensor(points)
        )
        if points.ndim < 2 or len(points) != 3:
            raise ValueError(
                f"a plane needs three points, shape (3, ...); got {tuple(points.shape)}."
            )
        flat = points.detach().double().reshape(3, -1)
        if not torch.isfinite(flat).all():
            raise ValueError("the three points of a plane must be finite; got NaN or infinity.")
        scale = flat.abs().max().clamp(min=1e-300)  # so that squares neither overflow nor vanish
        a, b = (flat[1] - flat[0]) / scale, (flat[2] - flat[0]) / scale
        first = a / a.norm()
        rest = b - (b @ first) * first
        if not rest.norm() > 1e-9 * max(a.norm(), b.norm()):
            raise ValueError(
                "the three points are on one line, so many planes go through them; choose a third "
                "point off the line through the first two."
            )
        basis = torch.stack([first, rest / rest.norm()])
        return cls(flat[0], basis, tuple(points.shape[1:]), (flat - flat[0]) @ basis.T)

    def to(self, device: torch.device) -> "Plane":
        """The same plane on another device."""
        marks = None if self.marks is None else self.marks.to(device)
        return Plane(self.origin.to(device), self.basis.to(device), self.shape, marks)

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
