"""A server that speaks S3, on loopback: moto's, in this process or, to be killed, in one of its own.

``python tests/s3.py PORT DIRECTORY DEATH`` serves the directory as the bucket "photos", and kills itself in place of
the answer to the read of a file number DEATH.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from functools import cached_property
from hashlib import md5
from pathlib import Path
from threading import Thread
from typing import Any

from werkzeug.serving import make_server

BUCKET = "photos"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nothing-shows",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}
Answer = tuple[str, bytes]


class Server:
    """S3 on 127.0.0.1. ``reads`` are the keys of files that were read; ``answer`` may give other answers than S3 does.

    ``answer`` is called with the method, the path and the query of a request, and gives a status and a body, or None.
    """

    def __init__(self, port: int = 0) -> None:
        from moto.moto_server import werkzeug_app as app

        self.reads: list[str] = []
        self.answer: Callable[[str, str, str], Answer | None] = lambda method, path, query: None
        self._s3 = app.DomainDispatcherApplication(app.create_backend_app)
        self._handler = type("Quiet", (app.MotoRequestHandler,), {"log": lambda *args, **options: None})
        self.port = port
        self.start()

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._serve, threaded=True, request_handler=self._handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        if method == "GET" and path.count("/") > 1:
            self.reads.append(path.removeprefix(f"/{BUCKET}/"))
        other = self.answer(method, path, query)
        if other is None:
            return self._s3(environ, start_response)
        status, body = other
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [b"" if method == "HEAD" else body]

    def put(self, files: dict[str, bytes]) -> None:
        """Store ``files``, {key: content}, in the bucket."""
        self.client.create_bucket(Bucket=BUCKET)
        for key, content in files.items():
            self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def hold(self, files: dict[str, bytes]) -> None:
        """Let the bucket hold ``files``, {key: content}, and nothing else. Each change is a request."""
        self.client.create_bucket(Bucket=BUCKET)
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        there = {each["Key"]: each["ETag"].strip('"') for each in listed}
        for key in there.keys() - files.keys():
            self.client.delete_object(Bucket=BUCKET, Key=key)
        digests = {key: md5(content, usedforsecurity=False).hexdigest() for key, content in files.items()}
        self.put({key: content for key, content in files.items() if there.get(key) != digests[key]})

    @cached_property
    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        )


def error(code: str, message: str = "no") -> bytes:
    """The body of an answer of S3 that refuses."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def main() -> None:
    port, directory, death = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    # Filled through a port of its own first: whoever waits for the other one finds all files there.
    filler = Server()
    filler.put({path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.png")})
    server = Server(port)
    numbers = itertools.count(1)

    def die(method: str, path: str, query: str) -> None:
        if method == "GET" and path.count("/") > 1 and next(numbers) == death:
            os.kill(os.getpid(), signal.SIGKILL)

    server.answer = die


if __name__ == "__main__":
    main()
