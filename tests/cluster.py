"""The chain on a Slurm of two nodes, both on this machine, has the bytes of plain make, and nodes are killed.

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
import sys

import pytest
from conftest import ROOT, wait_for
from small_runs import environment, make_inputs, run
from suzuri.training import checkpoint

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
        wait_for(lambda: self.states() == {"a": "idle", "b": "idle"}, 60)

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
        wait_for(lambda: self.states()[name] == "idle")

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
        wait_for(lambda: self.job(job) not in ("PENDING", "RUNNING", "COMPLETING"))
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


STEPS = 80
SETTINGS = [
    "PROFILE=demo", "NUM_FILES=3", "RANGES=4", "CC100_NUM_FILES=3", "VOCAB_SIZE=2000", "TOKENIZER_INPUT_SENTENCES=0",
    f"TRAIN_SET=max_steps={STEPS} batch_tokens=512 chunk_tokens=128 logging_steps=1 save_steps=5 eval_steps={STEPS}",
]  # fmt: skip


@pytest.fixture(scope="module")
def settings(sources):
    return [*SETTINGS, f"CC100_JA_URL={sources}/ja.txt.xz", f"JAWIKI_URL={sources}/cirrus_search_index"]


@pytest.fixture(scope="module")
def plain(cluster, raw, settings, tmp_path_factory):
    """DATA as plain make fills it on one machine; the models by two processes of torchrun."""
    data = tmp_path_factory.mktemp("plain")
    shutil.copytree(raw, data / "raw/own")
    make(cluster, "shards", "shards-own", "models", "GPUS=2", f"DATA={data}", *settings)
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


TRAINING = ["--nodes=2", "--cpus-per-task=1"]
TEXT = ["--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=1G"]


@pytest.mark.parametrize("goals", [["build-dataset-own"], ["shards", "shards-own"]])
def test_text_and_shards_whose_node_is_lost(cluster, plain, data, settings, goals):
    """Pieces are made on both nodes; one is lost while it makes some, and Slurm starts the job again."""
    job = cluster.submit("text.sbatch", *goals, f"DATA={data}", *settings, options=TEXT)
    wait_for(lambda: any(step.endswith(" b") for step in cluster.steps()) or cluster.job(job) == "FAILED")
    assert cluster.job(job) != "FAILED", cluster.log(job)
    cluster.lose("b")
    cluster.wait(job)
    assert cluster.job(job, "Restarts") == "1"
    for stage in ("text", "shards", "tokenizer") if "shards" in goals else ("text/own",):
        assert contents(data, stage) == contents(plain, stage)
    assert not list(data.rglob("*.part*"))


def test_an_allocation_as_one_types_it(cluster, plain, raw, settings, tmp_path):
    shutil.copytree(raw, tmp_path / "raw/own")
    launched = ["make", "-j4", "LAUNCH=srun --exact -N1 -n1 -c1", "build-dataset-own", f"DATA={tmp_path}", *settings]
    cluster.ask("salloc", *TEXT, *launched)
    assert contents(tmp_path, "text/own") == contents(plain, "text/own")


def lines_of(model):
    return [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]


def newest(model):
    """The number of the newest checkpoint of an unfinished model, or 0."""
    return max(map(checkpoint.step_of, checkpoint.checkpoints(f"{model}.part/checkpoints")), default=0)


def test_training_saves_before_its_time_is_over(cluster, plain, data, settings):
    """SIGUSR1 before the time limit, as #SBATCH --signal sends it: the job starts again, and the weights are the same.

    Two nodes have the same bits as two processes on one machine.
    """
    make(cluster, "shards", f"DATA={data}", *settings)  # those that the test above has made
    job = cluster.submit("train.sbatch", "train-model-cc100-ja", f"DATA={data}", *settings, options=TRAINING)
    wait_for(lambda: newest(data / "models/demo-cc100-ja") or cluster.job(job) == "FAILED")
    cluster.ask("scancel", "--signal=USR1", job)
    cluster.wait(job)
    assert cluster.job(job, "Restarts") == "1"
    assert "stopped after step" in cluster.log(job) and "continues after step" in cluster.log(job)
    weights = [(folder / "models/demo-cc100-ja/model.safetensors").read_bytes() for folder in (plain, data)]
    assert weights[0] == weights[1]


def test_training_loses_a_node_and_goes_on_with_one(cluster, plain, data, settings):
    """The job ends whole, and goes on with what there is, with the same batches."""
    job = cluster.submit("train.sbatch", "train-model-jawiki", f"DATA={data}", *settings, options=TRAINING)
    wait_for(lambda: newest(data / "models/demo-jawiki") or cluster.job(job) == "FAILED")
    cluster.kill("b")
    wait_for(lambda: cluster.job(job) == "PENDING")
    cluster.ask("scontrol", "update", f"JobId={job}", "NumNodes=1", "NumTasks=1")
    cluster.wait(job)
    assert "continues after step" in cluster.log(job)
    mine, theirs = (lines_of(folder / "models/demo-jawiki") for folder in (data, plain))
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for a, b in zip(mine, theirs, strict=True):
        for key in ("loss", "eval_loss"):
            assert key not in a or abs(a[key] - b[key]) < 1e-3
    cluster.start_node("b")
    wait_for(lambda: cluster.states() == {"a": "idle", "b": "idle"})


# --- without Slurm ----------------------------------------------------------------------------------------------------


def test_two_nodes_of_which_one_is_lost(tmp_path, bin_dir):
    """Both torchruns end, and one process goes on: its losses are those of one process from the first step on."""
    constant = ["lr_scheduler_type=wsd", "decay_ratio=0", "warmup_steps=0", "eval_steps=100000", "logging_steps=1"]
    args = make_inputs(tmp_path / "two")
    args += [word for setting in constant for word in ("--set", setting)]
    with socket.create_server(("localhost", 0)) as free:
        endpoint = f"localhost:{free.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    with open(tmp_path / "log", "w") as log:
        nodes = [
            subprocess.Popen([*torchrun, bin_dir / "train-mlm", *map(str, args), "--set", "max_steps=100000"],
                             stderr=log, env=environment())
            for _ in range(2)
        ]  # fmt: skip
    logged = (tmp_path / "log").read_text
    wait_for(lambda: "step 6 of" in logged() or any(node.poll() is not None for node in nodes))
    assert "step 6 of" in logged(), logged()
    (rank,) = subprocess.run(["pgrep", "-P", str(nodes[1].pid)], capture_output=True, text=True).stdout.split()
    for pid in (nodes[1].pid, int(rank)):
        os.kill(pid, signal.SIGKILL)
    assert all(node.wait(300) for node in nodes), logged()
    saved = newest(tmp_path / "two/out")
    steps = ["--set", f"max_steps={saved + 6}"]
    assert f"continues after step {saved} of {saved + 6}" in run(*args, *steps)
    one = make_inputs(tmp_path / "one")
    run(*one, *args[len(one) :], *steps)
    mine, theirs = lines_of(tmp_path / "two/out"), lines_of(tmp_path / "one/out")
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert "loss" not in a or abs(a["loss"] - b["loss"]) < 1e-3
