"""``nnUNetv2_train`` in a fork of a process that has imported it, for tests of many short trainings.

Each training is a process of its own that starts as nnU-Net's command does, but for the seconds of the imports.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def forked_training(nnunet):
    """Yield a function that trains, given the command's arguments, a log and variables.

    It returns the exit status, and whether the training has left processes behind, which are then killed.
    """
    command = [sys.executable, __file__]
    with subprocess.Popen(command, env=nnunet.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:

        def train(arguments, log, **environment):
            order = {"arguments": list(map(str, arguments)), "log": str(log), "environment": environment}
            server.stdin.write(json.dumps(order).encode() + b"\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield train
        server.kill()


def serve():
    """Fork for each order in a line of the standard input, and print how the fork has ended."""
    from nnunetv2.run.run_training import run_training_entry

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            with Path(order["log"]).open("w") as log:
                for stream in (sys.stdout, sys.stderr):
                    os.dup2(log.fileno(), stream.fileno())
            os.environ.update(order["environment"])
            sys.argv = order["arguments"]
            run_training_entry()
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, end_session(child)]), flush=True)


def end_session(leader):
    """Give what a training has left behind a few seconds to end, then kill it; return whether that was necessary."""
    deadline = time.monotonic() + 5
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(leader, 0)
            time.sleep(0.02)
        os.killpg(leader, signal.SIGKILL)
        return True
    return False


if __name__ == "__main__":
    serve()
