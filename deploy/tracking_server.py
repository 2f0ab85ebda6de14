"""A tracking server for a team without containers: MLflow on PostgreSQL, with passwords, on this machine's loopback.

    python -m deploy.tracking_server [--port 5000] [--database-port 5433]

All data is in .server/. Ctrl-C stops the server; the next start continues with the same data.
"""

import argparse
import contextlib
import fcntl
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path
from typing import IO

import requests
from deploy.postgresql import HOST, PostgreSQL

from darkroom.errors import DarkroomError, TrackingError
from darkroom.utils.console import error, messages

ROOT = Path(__file__).parents[1]
ADMIN = "admin"
# The databases of databases.sh: MLflow's runs and registry, its users, and Optuna's studies with their own user.
RUNS = "mlflow"
USERS = "mlflow_auth"
STUDIES = "optuna"
WORKERS = 2
# Seconds for MLflow to make its tables and to answer, on a slow machine.
PATIENCE = 180


class Server:
    """``mlflow server`` and its PostgreSQL, with their data in ``directory``.

    ``address`` is MLflow's, ``studies`` that of the database for search.storage. ``environment`` has the variables with
    which a program gets access. Raises TrackingError if a part is missing or does not start.
    """

    def __init__(self, directory: Path, port: int, database_port: int, *database_options: str) -> None:
        self.directory = directory.absolute()
        # If root runs this, another user runs PostgreSQL. That user may enter the directory, but not list it.
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.port = port
        self.address = f"http://{HOST}:{port}"
        self._database_password = _secret(self.directory / "postgres.password")
        self.postgresql = PostgreSQL(self.directory, database_port, self._database_password, *database_options)
        self.studies = self.postgresql.address(STUDIES, STUDIES)
        self.environment = {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": _secret(self.directory / "password"),
            "PGPASSWORD": _secret(self.directory / "optuna.password"),
        }
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start both, and return when they answer. If one does not, stop both."""
        self._lock = _only_one(self.directory / "lock")
        try:
            self.postgresql.stop()  # left behind by a killed process: nobody else has the lock
            for port in (self.port, self.postgresql.port):
                check_free(port, "make tracking-server PORT=… DATABASE_PORT=…")
            self.postgresql.start()
            self.postgresql.script(
                Path(__file__).with_name("databases.sh"), OPTUNA_PASSWORD=self.environment["PGPASSWORD"]
            )
            self._start_mlflow()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Return when MLflow has ended."""
        assert self._process
        self._process.wait()

    def stop(self) -> None:
        """Stop both, after they have finished their work."""
        self._end(signal.SIGTERM)
        self.postgresql.stop()
        self._unlock()

    def kill(self) -> None:
        """Kill both at once, like a loss of power."""
        self._end(signal.SIGKILL)
        self.postgresql.stop("immediate")
        self._unlock()

    def _start_mlflow(self) -> None:
        users = ConfigParser()
        users.read(Path(__file__).parent / "basic_auth.ini", encoding="utf-8")
        users["mlflow"]["database_uri"] = self.postgresql.address(USERS)
        configuration = self.directory / "basic_auth.ini"
        with configuration.open("w", encoding="utf-8") as written:
            users.write(written)
        # In the environment: other users of this machine can read the arguments of a process.
        environment = {
            "MLFLOW_BACKEND_STORE_URI": self.postgresql.address(RUNS),
            "PGPASSWORD": self._database_password,
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.environment["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(self.directory / "secret_key"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of MLflow's features for language models
        }
        # Variables for clients of a server, such as its address, must not reach this server.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts uvicorn by name
        assert self._lock
        log = self.directory / "mlflow.log"
        with log.open("ab") as opened:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--app-name=basic-auth", f"--workers={WORKERS}",
                 f"--host={HOST}", f"--port={self.port}", "--serve-artifacts",
                 f"--artifacts-destination={(self.directory / 'artifacts').as_uri()}"],
                cwd=self.directory, env=kept | environment | {"PATH": path},
                stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT,
                # Only this process gets Ctrl-C: MLflow must end before its database. It holds the lock while it runs.
                start_new_session=True, pass_fds=[self._lock.fileno()],
            )  # fmt: skip
        self._lock.truncate(0)
        self._lock.write(str(self._process.pid))
        self._lock.flush()
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                raise TrackingError(f"MLflow ended before it answered; {log} says why")
            if time.monotonic() > deadline:
                raise TrackingError(f"MLflow does not answer on {self.address}; {log} may say why")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.address}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        self._process.wait()
        self._process = None

    def _unlock(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None


def _secret(path: Path) -> str:
    """A password that only its owner can read, created the first time."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_urlsafe(24))
    return path.read_text(encoding="ascii").strip()


def _only_one(path: Path) -> IO[str]:
    """The server's lock, a file with the holder's process ID. Raises TrackingError if another server holds it."""
    opened = path.open("a+", encoding="ascii")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.seek(0)
        process = opened.read() or "that is just starting"
        opened.close()
        raise TrackingError(
            f"{path.parent}: a server with this data is running (process {process}); stop it first"
        ) from None
    return opened


def check_free(port: int, command: str) -> None:
    """Raise TrackingError if the port is in use; ``command`` chooses another port."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as problem:
            raise TrackingError(
                f"{HOST}:{port} cannot be listened on ({(problem.strerror or str(problem)).lower()}); "
                f"stop what does, or choose another with `{command}`"
            ) from None


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=5000, help="MLflow's (default: 5000)")
    parser.add_argument("--database-port", type=int, default=5433, help="PostgreSQL's (default: 5433)")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server = Server(ROOT / ".server", chosen.port, chosen.database_port)
        messages.print("Starting PostgreSQL and MLflow …")
        server.start()
        try:
            messages.print(_usage(server))
            server.wait()
            raise TrackingError(f"MLflow has ended; {server.directory / 'mlflow.log'} says why")
        finally:
            server.stop()
    except DarkroomError as problem:
        error(problem.lines)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        messages.print("\nStopped.")


def _usage(server: Server) -> str:
    given = {"MLFLOW_TRACKING_PASSWORD": "password", "PGPASSWORD": "optuna.password"}
    lines = [
        f'export {key}="$(cat {shlex.quote(str(server.directory / given[key]))})"'
        if key in given
        else f"export {key}={value}"
        for key, value in server.environment.items()
    ]
    return "\n".join(
        [
            f"MLflow on {server.address}, user {ADMIN}, password in {server.directory / 'password'}; Ctrl-C stops it.",
            "In the shell that uses it:",
            *(f"  {line}" for line in lines),
            f"and in params.yaml, for searches on several machines: search.storage: {server.studies}",
        ]
    )


if __name__ == "__main__":
    main()
