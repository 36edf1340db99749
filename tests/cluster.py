"""The chain on a Slurm of two nodes, both on this machine, with the bytes of plain make; nodes are killed in each phase.

`make test-cluster` runs it, as root: apt install slurmctld slurmd slurm-client munge. A node is a PID namespace with a
name and a loopback address of its own, so that killing it ends all its processes at once, without a word to anybody.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from conftest import ROOT, wait_for

NODES = {"a": "127.0.0.2", "b": "127.0.0.3"}
PROGRAMS = ["munged", "slurmctld", "slurmd", "srun", "sbatch", "unshare"]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmctldLogFile={folder}/slurmctld.log
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=5
ReturnToService=2
NodeName=a NodeAddr=127.0.0.2 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName=b NodeAddr=127.0.0.3 Port={ports[2]} CPUs=2 RealMemory=8000
PartitionName=all Nodes=a,b Default=YES State=UP
"""
# A name, an address and process ids of its own.
NODE = "hostname {name} && mount --bind {folder}/hosts /etc/hosts && exec slurmd -D -N {name}"


class Cluster:
    """munged, slurmctld and two slurmd, with all their files in `folder`."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(3)]
            ports = [s.getsockname()[1] for s in sockets]
        (folder / "state").mkdir()
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=socket.gethostname(), ports=ports))
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {n}\n" for n, ip in NODES.items()))
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
        self.env = {k: v for k, v in os.environ.items() if k not in inherited and not k.startswith("SLURM")}
        self.env |= {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def start(self):
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.run("munged", "--force", "--foreground", *(f"--{o}={self.folder}/munge.{f}" for o, f in files.items()))
        wait_for((self.folder / "munge.socket").exists, 10)
        self.run("slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        wait_for(lambda: self.states() == {"a": "idle", "b": "idle"}, 30)

    def run(self, name, *command):
        with open(self.folder / f"{name}.out", "a") as out:
            self.processes[name] = subprocess.Popen([name, *command], env=self.env, stdout=out, stderr=out)

    def start_node(self, name):
        node = NODE.format(name=name, folder=self.folder)
        with open(self.folder / f"{name}.out", "a") as out:
            command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "bash", "-c", node]
            self.processes[name] = subprocess.Popen(command, env=self.env, stdout=out, stderr=out)

    def kill(self, name, how=signal.SIGKILL):
        """End a daemon, or a node with everything that runs on it."""
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait()

    def lose(self, name):
        """Kill a node, and say so to Slurm at once, which would find out after 30 seconds; then the node comes back."""
        self.kill(name)
        self.ask("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=killed")
        self.start_node(name)
        wait_for(lambda: self.states()[name] == "idle", 30)

    def stop(self):
        for name in [*NODES, "slurmctld", "munged"]:
            if name in self.processes:
                self.kill(name, signal.SIGKILL if name in NODES else signal.SIGTERM)

    def ask(self, *command):
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def states(self):
        found = subprocess.run(["sinfo", "-hN", "-o%N %t"], env=self.env, capture_output=True, text=True).stdout
        return dict(line.split() for line in found.splitlines())

    def steps(self):
        """What runs now: "JOB.STEP NODES" each."""
        return self.ask("squeue", "-h", "--steps", "-o%i %N").splitlines()

    def job(self, number, what="JobState"):
        """A field of a job, such as its state: PENDING, RUNNING, COMPLETED, FAILED."""
        return self.ask("scontrol", "-o", "show", "job", number).split(f" {what}=")[1].split()[0]

    def submit(self, script, *args, options=()):
        """Submit configs/slurm/SCRIPT; returns the job's number. Its output goes to LOG."""
        log = f"--output={self.folder}/job-%j.out"
        return self.ask("sbatch", "--parsable", log, *options, f"configs/slurm/{script}", *map(str, args))

    def log(self, job):
        return (self.folder / f"job-{job}.out").read_text()

    def wait(self, job):
        """Wait until a job has ended well."""
        wait_for(lambda: self.job(job) not in ("PENDING", "RUNNING", "COMPLETING"), 120)
        assert self.job(job) == "COMPLETED", self.log(job)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid():
        pytest.skip(f"Slurm: needs {', '.join(missing) or 'root'}: apt install slurmctld slurmd slurm-client munge")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except AssertionError:
            last = [f"{p.name}: {p.read_text().strip()[-300:]}" for p in cluster.folder.glob("*.out")]
            pytest.skip(f"Slurm does not start here: {cluster.states()} {'; '.join(last)}")
        yield cluster
    finally:
        cluster.stop()


def make(cluster, *args):
    return cluster.ask("make", "-j2", *map(str, args))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """raw/own/: the sample as a corpus of six files, two of them JSON lines."""
    folder = tmp_path_factory.mktemp("raw") / "own"
    folder.mkdir()
    for path in sorted((ROOT / "data/sample").glob("*/*.txt")):
        if path.parent.name == "cc100":
            (folder / path.name).write_bytes(3 * path.read_bytes())
        elif path.stem in ("history", "nature"):
            lines = [json.dumps({"text": text}) + "\n" for text in path.read_text().split("\n\n")]
            (folder / f"{path.stem}.jsonl").write_text("".join(lines))
    return folder


SETTINGS = ["PROFILE=demo", "NUM_FILES=3", "RANGES=4", "CC100_NUM_FILES=3", "VOCAB_SIZE=2000"]
STEPS = 120
RECIPE = f"max_steps={STEPS} batch_tokens=2048 chunk_tokens=512 logging_steps=1 save_steps=10 eval_steps={STEPS}"
SETTINGS.append(f"TRAIN_SET={RECIPE}")
MODELS = ["demo-cc100-ja", "demo-jawiki"]


@pytest.fixture(scope="module")
def plain(cluster, raw, tmp_path_factory):
    """DATA as plain make fills it on one machine."""
    data = tmp_path_factory.mktemp("plain")
    shutil.copytree(raw, data / "raw/own")
    make(cluster, "shards", "shards-own", "models", f"DATA={data}", *SETTINGS)
    return data


@pytest.fixture(scope="module")
def data(raw, tmp_path_factory):
    """DATA for the cluster."""
    data = tmp_path_factory.mktemp("cluster")
    shutil.copytree(raw, data / "raw/own")
    return data


def contents(data, *stages):
    """{path: bytes} of all files of the stages."""
    paths = [path for stage in stages for path in (data / stage).rglob("*") if path.is_file()]
    return {str(path.relative_to(data)): path.read_bytes() for path in paths}


TEXT = ["--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=1G"]


@pytest.mark.parametrize(
    ("goals", "folder"), [(["build-dataset-own"], "pieces/maps/own"), (["shards", "shards-own"], "shards/own")]
)
def test_text_and_shards_whose_node_is_lost(cluster, plain, data, goals, folder):
    """Pieces are made on both nodes; one is lost while it makes some, and Slurm starts the job again."""
    job = cluster.submit("text.sbatch", *goals, f"DATA={data}", *SETTINGS, options=TEXT)
    lost = wait_for(lambda: [line.split()[0] for line in cluster.steps() if line.endswith(" b")])
    cluster.lose("b")
    cluster.wait(job)
    assert cluster.job(job, "Restarts") == "1" and lost
    for stage in ("text/own", "shards", "tokenizer") if "shards" in goals else ("text/own",):
        assert contents(data, stage) == contents(plain, stage)
    assert not [path for path in data.rglob("*.part*")]
