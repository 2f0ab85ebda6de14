"""The pictures that champion and challenger answer differently, in a file to which every process of a server appends.

Each line is a JSON object with the fields of ``Disagreement``. Of a picture there is its digest and nothing else, and
nothing of who has sent it. Pictures with equal answers say nothing about which model is better, and are only counted.
"""

import json
import logging
import os
import tempfile
import threading
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path

from darkroom.errors import ServingError

log = logging.getLogger(__name__)
# A hundred thousand lines, more than a test ever needs.
MAX_BYTES = 16_000_000


@dataclass(frozen=True)
class Disagreement:
    """A picture with two answers.

    ``digest`` is the BLAKE2b-128 of the pixels that the champion saw, as 32 hexadecimal digits: the inbox knows the
    picture by it.
    ``champion`` and ``challenger`` are the versions of the registered model ``name``, ``champion_label`` and
    ``challenger_label`` their answers; ``when`` is ISO time.
    """

    digest: str
    name: str
    champion: str
    challenger: str
    champion_label: str
    challenger_label: str
    when: str

    @property
    def identity(self) -> tuple[str, ...]:
        """The same picture may be sent again; a test that counts images must count it once."""
        return (self.name, self.champion, self.challenger, self.digest)


class DisagreementLog:
    """Appends to ``file``, or to one without a name that ends with the process, and reads what all have written.

    Any thread may use it. Raises ServingError if the file cannot be written.
    """

    def __init__(self, file: Path | None) -> None:
        self._descriptor = _open(file)
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], Disagreement] = {}
        self._read_bytes = 0
        self._has_room = True
        weakref.finalize(self, os.close, self._descriptor)

    def append(self, found: Disagreement) -> None:
        """Keep ``found``, unless it is there already, or there is no room; the log then says so once."""
        with self._lock:
            self._read_new()
            if found.identity in self._known or not self._has_room:
                return
            line = json.dumps(asdict(found)).encode() + b"\n"
            try:
                self._has_room = os.fstat(self._descriptor).st_size + len(line) <= MAX_BYTES
                why = f"their file has {MAX_BYTES:,} bytes"
                if self._has_room:
                    os.write(self._descriptor, line)
            except OSError as problem:
                self._has_room, why = False, problem.strerror or str(problem)
            if not self._has_room:
                log.warning("disagreements are only counted from now on (%s)", why)

    def read(self, name: str, champion: str, challenger: str) -> list[Disagreement]:
        """The pictures that these two versions answer differently, each once, in the order of their first answers."""
        with self._lock:
            self._read_new()
            return [each for each in self._known.values() if each.identity[:3] == (name, champion, challenger)]

    def _read_new(self) -> None:
        """Read the lines that were appended since the last call, by any process."""
        size = os.fstat(self._descriptor).st_size
        content = os.pread(self._descriptor, size - self._read_bytes, self._read_bytes)
        whole = content[: content.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            try:
                each = Disagreement(**json.loads(line))
            except (ValueError, TypeError):  # half a line, of a disk that was full
                continue
            self._known.setdefault(each.identity, each)


def check_log(file: Path) -> None:
    """Raises ServingError unless ``file`` can be written."""
    os.close(_open(file))


def _open(file: Path | None) -> int:
    if file is None:
        with tempfile.TemporaryFile() as unnamed:
            return os.dup(unnamed.fileno())
    try:
        return os.open(file.expanduser(), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as problem:
        why = (problem.strerror or str(problem)).lower()
        raise ServingError(f"serve.shadow_log: {file}: {why}; name a file that can be written") from None
