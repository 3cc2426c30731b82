"""Carries events from the roles to their listeners; the roles do not know who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bikeflow.core.model import Event

Listener = Callable[[Event], None]


class Events:
    """Hands each event on at once, in the order of subscription; listeners take note and come back quickly."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """From now on `listener` hears of every event."""
        self._listeners.append(listener)

    @contextmanager
    def heard_by(self, listener: Listener) -> Iterator[None]:
        """Subscribe `listener` for as long as the context lasts."""
        self.subscribe(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def emit(self, event: Event) -> None:
        """Tell all listeners; called in the event loop's thread."""
        for listener in self._listeners:
            listener(event)
