"""How parameters enter a neural solver, and how its training goes over to what it said itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole

__all__ = ["CAPE", "Conditional", "Curriculum"]

_SCALES = ("log", "standard", "none")
_SCHEDULES = ("tanh", "teacher-forcing", "rollout", "push-forward")


@dataclass(frozen=True)
class CAPE:
    """Parameters enter by channel attention: they weigh the branches of a first guess of the next frames.

    Parameters
    ----------
    width : int, default=64
        Channels of the branches.
    kernel : int, default=5
        Cells of a convolution, odd.
    frames : int, default=1
        Frames that are guessed.
    scale : {"log", "standard", "none"}, default="log"
        What is done to the parameters: their logarithm, standardised; standardised; nothing.
    modes : int, default=16
        Of the spectral branch, in each dimension.
    norm : {"none", "instance", "layer"}, default="none"
        Of the change that is guessed: none, so that its size may follow the parameters; to variance 1 over the grid, times a
        gain that is learned, on any grid; the same with weights for each cell, as in the paper, which ties it to one grid.
    """

    width: int = 64
    kernel: int = 5
    frames: int = 1
    scale: str = "log"
    modes: int = 16
    norm: str = "none"

    def __post_init__(self) -> None:
        require_whole(1, kernel=self.kernel, frames=self.frames, modes=self.modes)
        require_whole(2, width=self.width)
        require_one_of(_SCALES, scale=self.scale)
        require_one_of(("none", "instance", "layer"), norm=self.norm)
        if self.kernel % 2 == 0 or self.width % 2:
            raise InvalidData(f"expected an odd kernel= and an even width=, got {self.kernel} and {self.width}")


@dataclass(frozen=True)
class Conditional:
    """Parameters enter as channels that are constant over the grid: the simplest way.

    Parameters
    ----------
    scale : {"log", "standard", "none"}, default="log"
        As of `CAPE`.
    """

    scale: str = "log"

    def __post_init__(self) -> None:
        require_one_of(_SCALES, scale=self.scale)


@dataclass(frozen=True)
class Curriculum:
    r"""How many steps of a run are said from what the network said itself, as training goes on; from true fields after.

    With "tanh" it is :math:`\lceil T (1 + \tanh((e - c) / w)) / 2 \rceil` of T steps after a share e of the epochs.

    Parameters
    ----------
    schedule : {"tanh", "teacher-forcing", "rollout", "push-forward"}, default="tanh"
        As above; 1 (true fields throughout); all from the start; all, with no gradient through earlier steps.
    width : float, default=0.2
        w.
    centre : float, default=0.5
        c.

    Examples
    --------
    >>> [Curriculum().own_steps(progress, 20) for progress in (0.0, 0.4, 0.5, 0.6, 1.0)]
    [1, 6, 10, 15, 20]
    """

    schedule: str = "tanh"
    width: float = 0.2
    centre: float = 0.5

    def __post_init__(self) -> None:
        require_one_of(_SCHEDULES, schedule=self.schedule)
        require_positive(width=self.width)

    def own_steps(self, progress: float, steps: int) -> int:
        """Steps said one after the other, from 1 to `steps`; the first always begins at a true field.

        Parameters
        ----------
        progress : float
            Share of the epochs that have passed, from 0 to 1.
        steps : int
        """
        if self.schedule != "tanh":
            return 1 if self.schedule == "teacher-forcing" else steps
        share = 0.5 * (1.0 + math.tanh((progress - self.centre) / self.width))
        return min(max(math.ceil(steps * share), 1), steps)

    @property
    def through_time(self) -> bool:
        """Whether gradients flow through earlier steps."""
        return self.schedule != "push-forward"
