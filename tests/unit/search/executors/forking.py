"""The parent of processes that begin with everything imported which a search needs: forked.py talks to it.

It imports, does nothing else, and forks. On a socket it is asked, a line of JSON at a time, for {"run": arguments,
"environment": {…}} with the new process's standard output and errors, or for {"wait": process id}; it answers with the
process id, or with how it ended, null if it has not.
"""

import json
import os
import socket
import sys
from typing import Any

LONGEST = 1 << 20


def serve(asked: socket.socket) -> None:
    """Fork as asked. Returns in a process that is to run a search, and exits when nobody asks any more."""
    while True:
        line, streams, _, _ = socket.recv_fds(asked, LONGEST, 2)
        if not line:
            sys.exit()
        request, answer = json.loads(line), None
        if "wait" in request:
            ended, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            asked.close()
            become(request, streams)
            return
        for stream in streams:
            os.close(stream)
        asked.sendall(json.dumps(answer).encode() + b"\n")


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be a process as if it had been started anew."""
    os.setsid()  # signals to its group must not reach the tests
    for stream, number in zip(streams, (1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["run"]


if __name__ == "__main__":
    import scene  # which lies beside it

    serve(socket.socket(fileno=int(sys.argv[1])))
    scene.run()
