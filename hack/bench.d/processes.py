"""Processes: measured ones, and those in the background that end with us."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

# A tool that takes longer than this, and what so slow a machine needs for the bytes, is stopped and said to.
TIME_LIMIT = 180
SLOWEST = 20 << 20
TICK = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A measured command did not end well."""


@dataclass
class Use:
    """What one command took: seconds, CPU seconds, KiB at the peak, and (seconds, KiB) along the way where asked for."""

    wall: float
    cpu: float
    rss: int
    trace: list = field(default_factory=list)


def environment():
    """Ours without what would point a tool somewhere else."""
    strangers = ("CONTAINERD_", "DOCKER_", "REGISTRY_")
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(strangers) and not key.lower().endswith("_proxy")
    }


def measure(command, scratch, size, traced=False):
    """Runs a command that gets `size` bytes to its end.

    GNU time stands in between: a child of this interpreter would inherit the interpreter's peak memory as its own.
    """
    peak, output = scratch / "peak", scratch / "output"
    with open(output, "wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(
            ["/usr/bin/time", "--quiet", "--format=%M", f"--output={peak}", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            cwd=scratch,
            start_new_session=True,
        )
        limit = TIME_LIMIT + size // SLOWEST
        late = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        trace = Trace(process.pid, start) if traced else None
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - start
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL:
        raise Failed(f"stopped after {limit} s")
    if process.returncode != 0:
        lines = output.read_text(errors="replace").strip().splitlines()
        raise Failed(f"ended with {process.returncode}: {lines[-1] if lines else 'no word'}")
    points = trace.stop() if trace else []
    return Use(wall, usage.ru_utime + usage.ru_stime, int(peak.read_text().split()[-1]), points)


class Trace:
    """Memory of the only child of a process, a few times a second."""

    def __init__(self, parent, start):
        self.parent, self.start, self.points = parent, start, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.wait(0.25):
            try:
                with open(f"/proc/{self.parent}/task/{self.parent}/children", encoding="ascii") as file:
                    child = file.read().split()[0]
                self.points.append((round(time.monotonic() - self.start, 2), status_field(child, "VmRSS")))
            except (OSError, IndexError, KeyError):
                continue

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.points


def status_field(pid, name):
    """KiB of a line in /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(dict(line.split(":", 1) for line in file)[name].split()[0])


class Daemon:
    """A background process with its output in a file."""

    running = []

    def __init__(self, name, command, log, stdin=subprocess.DEVNULL):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=stdin, stdout=out, stderr=subprocess.STDOUT, env=environment()
            )
        Daemon.running.append(self)

    def wait_until(self, ready, seconds=30):
        """Until `ready()` is true; its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            answer = ready()
            if answer:
                return answer
            time.sleep(0.02)
        tail = self.log.read_text(errors="replace").splitlines()[-5:]
        raise SystemExit("\n".join([f"{self.name} did not come up:", *tail]))

    def pids(self):
        """Its process and those it started."""
        found = [self.process.pid]
        with open(f"/proc/{found[0]}/task/{found[0]}/children", encoding="ascii") as file:
            return found + [int(pid) for pid in file.read().split()]

    def cpu(self):
        """CPU seconds so far."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def forget_peak(self):
        """From now on, `peak` counts anew."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def peak(self):
        """KiB."""
        return status_field(self.process.pid, "VmHWM")

    def stop(self):
        if self in Daemon.running:
            Daemon.running.remove(self)
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @classmethod
    def stop_all(cls):
        """Last started, first stopped: containerd talks to its snapshotter."""
        while cls.running:
            cls.running[-1].stop()
