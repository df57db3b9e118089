"""Where the states of a run's loops are saved, and who makes its items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keepsakes import Keepsakes
from guard_plugins.runtime.keeping.state import LoopState, Stateful
from guard_plugins.runtime.sharing.helpers import Helpers
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.shares import Portion, Share
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.signals import StopRequest

NUMBERS: Final = "numbers:reported"
"""Part of a saved state that holds the numbers the method has reported, where there are any."""


@dataclass(frozen=True)
class Keeper:
    """What keeps a loop's state safe: where it is saved, and whether the run was asked to stop.

    Attributes:
        checkpoints: Where states are saved.
        stop: Tells when to stop.
        riders: State besides the loop's own that changes with it (the curvature hook's), by name.
        keepsakes: Files and numbers of the method's own; in memory where nothing else is given.
        share: The items that this process makes; all where None.
        ranks: In the first of several processes of a run: all of them, to which items are dealt.
        helpers: In the process of a run that has some: those that make items beside it.
        team: In each of several processes that train a model together: all of them.
    """

    checkpoints: Checkpoints
    stop: StopRequest = field(default_factory=StopRequest)
    riders: Mapping[str, Stateful] = field(default_factory=dict)
    keepsakes: Keepsakes = field(default_factory=lambda: Keepsakes(None, Checkpoints(None, every=math.inf)))
    share: Share | Portion | None = None
    ranks: Ranks | None = None
    helpers: Helpers | None = None
    team: Team | None = None

    @property
    def shares(self) -> bool:
        """Whether other processes make some of the items."""
        return self.ranks is not None or self.helpers is not None

    def begin(self, loop: str, state: LoopState) -> int:
        """Take over the saved state of a loop, if there is one, and return the number of steps it has done.

        Raises:
            DamagedError: If the state is damaged or does not fit.
            GuardError: If the processes of a team do not find the same.
        """
        saved = self.checkpoints.load(loop)
        if self.team is not None:
            self.team.require_same(0 if saved is None else saved[0])
        if saved is None:
            return 0
        done, captured = saved
        try:
            self._whole(state, numbers=NUMBERS in captured).restore(captured)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise self.checkpoints.unusable(loop, f"{type(error).__name__}: {error}".splitlines()[0]) from error
        return done

    def after(self, loop: str, done: int, state: LoopState, *, last: bool) -> None:
        """Save the state where the cadence, the loop's end or a stop signal asks for it; of a team, the first does.

        Raises:
            StoppedError: If the run was asked to stop; the state is saved. Of a team, all end after the same step.
        """
        asked, saves = self.stop.asked, True
        if self.team is not None:  # a signal that came just now is agreed on after the next step
            number = self.team.agreed(self.stop.number)
            self.stop.number = number or self.stop.number
            asked, saves = number is not None or self.stop.error is not None, self.team.rank == 0
        ended = last and self.checkpoints.needs_end(loop)
        if saves and (ended or self.checkpoints.due or asked):
            self.keep(loop, done, state)
        if asked or self.team is None:
            self.stop.check()

    def keep(self, loop: str, done: int, state: LoopState) -> None:
        """Save the state after ``done`` steps."""
        self.checkpoints.save(loop, done, self._whole(state, numbers=bool(self.keepsakes.numbers)).capture)

    def riding(self) -> dict[str, Any]:
        """Return the state of the riders."""
        return LoopState(**self.riders).capture()

    def ride(self, captured: dict[str, Any]) -> None:
        """Take over what :meth:`riding` returned."""
        LoopState(**self.riders).restore(captured)

    def _whole(self, state: LoopState, *, numbers: bool) -> LoopState:
        beside: dict[str, Stateful] = {f"rider:{name}": rider for name, rider in self.riders.items()}
        return LoopState(**state.parts, **beside, **({NUMBERS: self.keepsakes} if numbers else {}))
