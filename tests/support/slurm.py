"""A Slurm of one node on the loopback, whose files, keys and ports are its own, so that no other Slurm is touched."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
PATIENCE = 60  # seconds for a daemon to answer

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=20
PartitionName=high Nodes={host} PriorityTier=2 PreemptMode=OFF
"""
# A task that is queued again waits as long as a credential may last, which is two minutes unless cred_expire is less.


def missing():
    """Why there can be no Slurm here; None if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"needs Slurm and MUNGE (Debian's slurm-wlm and munge); there is no {', '.join(absent)}"
    return None if os.geteuid() == 0 else "needs root, as whom this Slurm runs its jobs"


class Slurm:
    """Starts the daemons when its context begins, and ends them and their jobs when it ends."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, host=host, **ports))
        files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
        files["seed-file"] = "munged.seed"
        self.run("munged", "--force", *(f"--{option}={self.folder / name}" for option, name in files.items()))
        self.run("slurmctld")
        self.run("slurmd", "-N", host)
        wait_until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t"), PATIENCE)
        return self

    def __exit__(self, *_):
        self.run("scancel", "--user=root", check=False)
        self.run("scontrol", "shutdown", check=False)
        for name in ("slurmd", "slurmctld", "munged"):
            file = self.folder / f"{name}.pid"
            if file.exists():
                self.run("kill", file.read_text().strip(), check=False)

    def run(self, program, *arguments, check=True, **environment):
        """Run a program of Slurm's; return what it printed."""
        result = subprocess.run(
            [shutil.which(program, path=PATH), *map(str, arguments)],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0 or not check, f"{program}: {result.stdout}{result.stderr}"
        return result.stdout

    def submit(self, script, *options, **environment):
        """Submit a script; return the number of its job."""
        return int(self.run("sbatch", "--parsable", *options, script, **environment))

    def state(self, job):
        """The state of a job or of a task such as ``3_1``, for instance RUNNING."""
        return self.fact(job, "JobState")

    def fact(self, job, name):
        """A fact of a job, as ``scontrol show job`` prints it."""
        facts = dict(word.split("=", 1) for word in self.run("scontrol", "show", "job", job).split() if "=" in word)
        return facts[name]


def free_port():
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_until(condition, seconds):
    """Wait until a condition holds; return what it returned."""
    end = time.monotonic() + seconds
    while not (holds := condition()):
        assert time.monotonic() < end, f"after {seconds} s it still does not hold"
        time.sleep(0.3)
    return holds
