"""What each process of a server may take of the machine."""

import os

from darkroom.config.settings import Serve


def cores(settings: Serve) -> int:
    """The cores for each process."""
    return max(1, (os.cpu_count() or 1) // settings.processes)


def share(settings: Serve) -> Serve:
    """The settings of each process: what bounds memory and waiting is divided, but the largest request still fits.

    Connections are not: nothing spreads them evenly, so that a process would close some of a client that has no more
    than it may.
    """
    return settings.model_copy(
        update={
            "queue": max(settings.queue // settings.processes, settings.max_images),
            "max_bodies_mb": max(settings.max_bodies_mb / settings.processes, settings.max_request_mb),
        }
    )
