"""The history of the champion: an append-only log in the registry itself.

The entries of a registered model NAME are the versions of another one, NAME-history. MLflow's registry gives each
version a unique, increasing number, in one transaction with its tags: of two simultaneous writers, on any machines,
one comes first. An entry that changes the champion names the change that it was decided on, and counts only if that
change is still the latest when the entry is written. So the log alone determines the champion. The aliases follow it:
a command that finds them out of date moves them. Entries older than NAME itself are about an earlier model of that
name, which was deleted. They are kept, but no longer count.
"""

import json
import math
import random
import textwrap
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from darkroom.errors import TrackingError
from darkroom.promotion.registry import HISTORY, LOGGED_MODEL, by_name, make_registered_model, registered_model
from darkroom.utils.files import digest

ATTEMPTS = 20
ABOUT = (
    "The history of `{name}`: every promotion, refusal and rollback, one version each. "
    "Written by `darkroom promote` and `darkroom rollback`; `darkroom history` reads it. Do not change it by hand."
)
# What MLflow's page shows of an entry in its list, as tags; the other fields are one more, as JSON.
SHOWN = ("kind", "version", "before", "who", "reason")
DETAILS = "details"
# Facts about an entry that come from the registry and are not part of the entry.
FOUND = ("number", "is_of_deleted")
# MLflow keeps 5,000 characters of a description: of the history the latest entries, in a line each.
LONGEST_DESCRIPTION = 5_000
LATEST = 20
LONGEST_LINE = 160


class Kind(StrEnum):
    """The event that an entry records. A refusal changes nothing, the others change the champion."""

    PROMOTED = "promoted"
    FORCED = "forced"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Entry:
    """One entry, about a version that was proposed as champion.

    ``before`` was champion when it was written; ``champion`` and ``previous`` are the versions of the aliases after it,
    if it counts. ``after`` is the number of the change that it follows, 0 for the first one. ``evidence`` is the URI of
    the gate's findings, with their SHA-256. ``digest`` is the SHA-256 of all the other fields and of the digest of the
    entry ``after``: to change an entry unnoticed, all that follow would have to be changed. ``number`` is the
    registry's, and 0 before it is written. ``is_of_deleted`` says that it is about an earlier registered model of the
    name, which was deleted.
    """

    kind: Kind
    version: str
    weights_sha256: str
    run_id: str
    who: str
    before: str = ""
    champion: str = ""
    previous: str = ""
    after: int = 0
    reason: str = ""
    evidence: str = ""
    evidence_sha256: str = ""
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    digest: str = ""
    number: int = 0
    is_of_deleted: bool = False

    @classmethod
    def parse(cls, version: ModelVersion, since: float = 0) -> Self:
        """The entry in a version of the history of a model that was created at ``since``, in milliseconds.

        Raises TrackingError if it holds none.
        """
        try:
            details = json.loads(version.tags[DETAILS])
            shown: dict[str, Any] = {key: version.tags[key] for key in SHOWN if key in version.tags}
            shown["kind"] = Kind(shown["kind"])
            is_of_deleted = version.creation_timestamp < since
            return cls(**shown, **details, number=int(version.version), is_of_deleted=is_of_deleted)
        except (KeyError, TypeError, ValueError) as problem:
            raise TrackingError(
                f"{version.name} version {version.version}: not an entry of the history ({problem}); "
                "if it was made by hand, delete it in MLflow's page"
            ) from None

    def tags(self) -> dict[str, str]:
        """The entry as tags of a version; ``parse`` reads them."""
        content = {key: value for key, value in asdict(self).items() if key not in FOUND}
        shown = {key: str(content.pop(key)) for key in SHOWN}
        return {key: value for key, value in shown.items() if value} | {DETAILS: json.dumps(content)}

    @property
    def changes(self) -> bool:
        return self.kind is not Kind.REFUSED

    def sentence(self) -> str:
        """The event in a sentence, for people."""
        instead = f" instead of version {self.before}" if self.before else ""
        stays = f", version {self.before} stays champion" if self.before else ""
        event = {
            Kind.PROMOTED: f"version {self.version} became champion{instead}",
            Kind.FORCED: f"version {self.version} was made champion{instead} against the gate's verdict",
            Kind.REFUSED: f"version {self.version} was refused{stays}",
            Kind.ROLLED_BACK: f"back to version {self.version} from version {self.before}",
        }[self.kind]
        return f"{event}, by {self.who}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class State:
    """The versions that the aliases must name ("" for none), after the change ``number``, 0 if there was none."""

    champion: str = ""
    previous: str = ""
    number: int = 0


class History:
    """The history of the registered model ``name``."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.name = f"{name}{HISTORY}"
        self._client = client
        self._of = name

    def read(self) -> list[Entry]:
        """Every entry, the oldest first."""
        return self.read_and_model()[0]

    def read_and_model(self) -> tuple[list[Entry], RegisteredModel | None]:
        """Every entry, the oldest first, and the registered model, None if it does not exist."""
        found = self._client.search_model_versions(by_name(self.name))
        model = registered_model(self._client, self._of)
        since = model.creation_timestamp if model else math.inf
        return sorted((Entry.parse(each, since) for each in found), key=lambda entry: entry.number), model

    def append(self, entry: Entry, entries: Sequence[Entry]) -> Entry:
        """Write an entry that was decided on ``entries``. Returns it with its number and digest.

        Raises MlflowException if the registry refused or did not respond; in the second case the entry may exist.
        """
        entry = with_digest(replace(entry, after=state_of(entries).number), entries)
        for attempt in range(ATTEMPTS):
            try:
                made = self._client.create_model_version(
                    self.name,
                    f"{LOGGED_MODEL}{self._of}/{entry.version}",
                    entry.run_id,
                    tags=entry.tags(),
                    description=textwrap.shorten(entry.sentence(), LONGEST_DESCRIPTION, placeholder="…"),
                    await_creation_for=0,
                )
                return replace(entry, number=int(made.version))
            except MlflowException as problem:
                if problem.error_code == "RESOURCE_DOES_NOT_EXIST" and attempt == 0:  # the first entry
                    make_registered_model(self._client, self.name, ABOUT.format(name=self._of))
                    continue
                if (taken := self._find(entry.id)) is not None:
                    return taken  # only the answer was lost
                # MLflow itself tries three numbers, and all may have been taken by others meanwhile.
                if "Giving up after" not in str(problem) or attempt == ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))  # noqa: S311 - to meet others less often
        raise AssertionError("unreachable")

    def describe(self, entries: Sequence[Entry]) -> None:
        """Write the latest entries to the history's description: the rows on MLflow's page cut them off."""
        lines = [
            f"- {entry.when[:16].replace('T', ' ')} UTC: "
            + textwrap.shorten(f"entry {entry.number}, {entry.sentence()}", LONGEST_LINE, placeholder="…")
            for entry in reversed(entries[-LATEST:])
        ]
        self._client.update_registered_model(self.name, "\n".join([ABOUT.format(name=self._of), "", *lines]))

    def _find(self, entry_id: str) -> Entry | None:
        return next((entry for entry in self.read() if entry.id == entry_id), None)


def with_digest(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """The entry with its digest."""
    followed = next((each.digest for each in entries if each.number == entry.after), "")
    content = {key: value for key, value in asdict(entry).items() if key not in {"digest", *FOUND}}
    return replace(entry, digest=digest([content, followed]))


def effective(entries: Sequence[Entry]) -> list[Entry]:
    """The changes that count: each was decided on the one before it. The others were overtaken by another change.

    A change that follows an entry which was deleted later still counts: the reference shows that the entry existed.
    """
    there = {entry.number for entry in entries}
    found: list[Entry] = []
    for entry in entries:
        last = found[-1].number if found else 0
        counts = entry.changes and not entry.is_of_deleted
        if counts and (entry.after == last or (entry.after > last and entry.after not in there)):
            found.append(entry)
    return found


def state_of(entries: Sequence[Entry]) -> State:
    """The state after the latest change that counts."""
    changes = effective(entries)
    return State(changes[-1].champion, changes[-1].previous, changes[-1].number) if changes else State()


def damage(entries: Sequence[Entry]) -> list[str]:
    """The evidence that entries were changed or deleted after they were written: a line for each."""
    found = [
        f"entry {entry.number} was changed after it was written: its digest differs"
        for entry in entries
        if with_digest(entry, entries).digest != entry.digest
    ]
    numbers = {entry.number for entry in entries}
    gone = sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
    return found + [f"entry {number} was deleted" for number in gone]
