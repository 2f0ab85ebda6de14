"""A Ray cluster of two nodes with a processor each, on this machine.

Writes its address. For each line that it is told it loses the second node and answers with a line, or adds one if there
is none. Ends with its input.
"""

import contextlib
import sys

from ray.cluster_utils import Cluster

# Ray gives a node 30 seconds to start, which a busy machine may not have.
ATTEMPTS = 10


def main():
    cluster = patiently(Cluster, initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = patiently(cluster.add_node, num_cpus=1)
    say(cluster.address)
    for _ in sys.stdin:
        if second:
            cluster.remove_node(second, allow_graceful=False)
            second = None
        else:
            second = patiently(cluster.add_node, num_cpus=1)
        say("done")
    cluster.shutdown()


def patiently(start, **given):
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(Exception):  # Ray raises no kind of its own
            return start(**given)
    return start(**given)


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
