"""Processes that are measured, and the Python that the bench runs in. Only the standard library, so that any Python 3.11 can start it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent


@dataclass
class Run:
    """One process: seconds by the clock, seconds of CPU (user and system), and the most memory it held."""

    name: str
    wall: float
    cpu: float
    megabytes: float

    def as_json(self):
        return asdict(self)


class Failed(Exception):
    pass


class Bound:
    """When the session has to be over."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes

    def left(self):
        return self.end - time.monotonic()


def measured(name, command, bound, environment=None, log=None):
    """Runs a process of its own to its end and tells what it took. Its output goes to `log`."""
    if bound.left() <= 0:
        raise Failed(f"{name}: the time is over")
    command = [str(word) for word in command]
    with open(log or os.devnull, "wb") as out:
        began = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}, cwd=REPOSITORY)
        killer = threading.Timer(bound.left(), os.kill, (child.pid, signal.SIGKILL))
        killer.start()
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        killer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        told = Path(log).read_text(errors="replace")[-3000:] if log else ""
        over = " (the time is over)" if bound.left() <= 0 else ""
        raise Failed(f"{name}: exit code {child.returncode}{over}\n$ {' '.join(command)}\n{told}")
    return Run(name, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def python(target):
    """The interpreter of a virtual environment under `target`, made once and kept until the requirements change."""
    requirements = HERE / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = target / "bench-venv"
    interpreter, stamp = folder / "bin/python", folder / ".requirements"
    if stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", requirements], check=True)
    stamp.write_text(wanted)
    return interpreter


def use_two_cores():
    """Whoever counts cores finds two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 2:
        os.sched_setaffinity(0, cores[:2])


def warmed(folder):
    """Reads all files once, so that the page cache holds them."""
    for file in sorted(folder.rglob("*.parquet")):
        with open(file, "rb") as handle:
            while handle.read(1 << 22):
                pass


def machine():
    """What a stranger has to know to compare."""
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    kilobytes = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(kilobytes / 1024**2, 1), "kernel": os.uname().release}


def output_of(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=REPOSITORY)
    return done.stdout.strip() if done.returncode == 0 else ""
