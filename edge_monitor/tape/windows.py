"""Which spans of a run are kept: a time before and after each trigger, and spans that meet are one."""

from __future__ import annotations

from .note import LONGEST, MOST_CAUSES, Cause, Note

FOREVER = 1 << 62  #: ns; the end of a window that lasts as long as the run


class Windows:
    """The window that is open, if any. Times are the stream's, in ns."""

    def __init__(self, before: int, after: int, *, always: bool = False) -> None:
        """``always``: one window from the beginning that never ends."""
        self.before, self.after = before, after
        self.open: Note | None = Note(0, FOREVER, (Cause(0, "run"),), 1) if always else None

    def trigger(self, cause: Cause, decided: int) -> Note:
        """Something happened, and was decided at ``decided``: the window that it is in now."""
        cause = Cause(cause.t, cause.type, cause.subject[:LONGEST])
        begin, end = cause.t - self.before, decided + self.after
        last = self.open
        if last is None or begin > last.end:
            self.open = Note(begin, end, (cause,), 1)
        else:
            causes = (*last.causes, cause)[:MOST_CAUSES]
            self.open = Note(min(last.begin, begin), max(last.end, end), causes, last.count + 1)
        return self.open

    def over(self, now: int) -> bool:
        """Whether the open window has ended: what comes now is no longer in it."""
        return self.open is not None and now > self.open.end

    def settled(self, now: int) -> bool:
        """Whether no trigger that comes now or later can meet the open window."""
        return self.open is not None and now > self.open.end + self.before
