"""hack/bench: rpull beside the other tools on this machine. The bash script of that name builds everything and calls this."""

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import proof
import report
import scenarios
import tools
from processes import Daemon, Failed
from stage import Nginx, Paced, Tree, clear

DOCUMENT = Path("docs/performance.md")
STARTS = 31


class Programs:
    """Where everything is that is run."""

    def __init__(self):
        built = Path(os.environ["RPULL_BUILT"]).resolve()
        self.rpull = built / "rpull"
        self.stand_in, self.image, self.registry = (
            built / "examples" / name for name in ("overlaybd-stand-in", "bench-image", "bench-registry")
        )
        self.containerd = Path(os.environ["CONTAINERD_2"])
        self.ctr = self.containerd.with_name("ctr")
        self.snapshotter = os.environ.get("OVERLAYBD_SNAPSHOTTER")
        self.upstream = os.environ.get("UPSTREAM_CTR")


def arguments():
    listing = "\n".join(f"  {scenario.number}  {scenario.title}" for scenario in scenarios.every(1))
    parser = argparse.ArgumentParser(
        prog="hack/bench",
        description="rpull beside the other tools on this machine, in one run.",
        epilog=f"scenarios:\n{listing}\n  start  rpull --version",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    numbers = [scenario.number for scenario in scenarios.every(1)] + ["start"]
    parser.add_argument("scenario", nargs="*", help="which to run; all when none is given")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each tool (5)")
    parser.add_argument("--quick", action="store_true", help="small images, one round: does the harness itself work?")
    parser.add_argument("--scale", type=float, default=1.0, help="every image so many times as large (1)")
    parser.add_argument("--tools", help="names or parts of names, by commas: only these beside rpull")
    parser.add_argument("--results", type=Path, default=Path("target/bench.json"), help="JSON file (target/bench.json)")
    parser.add_argument("--markdown", action="store_true", help=f"run nothing, write the kept results into {DOCUMENT}")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(numbers):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    options.scenario = options.scenario or numbers
    if options.quick:
        options.rounds, options.scale = 1, options.scale / 32
        # Numbers of small images are nobody's results.
        options.results = Path(os.devnull)
    return options


class Bench:
    """One run of the harness."""

    def __init__(self, options, home):
        self.options, self.home = options, home
        self.programs = Programs()
        self.tree = Tree(home / "tree", self.programs.image)
        self.tools = tools.every(home, self.programs)
        self.servers, self.folders = {}, itertools.count()
        self.failed = False

    def server(self, flags):
        """The server with these flags, started at the first call."""
        if flags not in self.servers:
            folder = self.home / f"server{next(self.folders)}"
            self.servers[flags] = (
                Nginx(folder, self.tree) if flags is None else Paced(folder, self.tree, self.programs.registry, flags)
            )
        return self.servers[flags]

    def stop_servers(self):
        """The next ones will know the images made since."""
        for server in self.servers.values():
            server.daemon.stop()
        self.servers = {}

    def prove(self, image):
        layer = self.tree.need(image)[0]
        servers = [self.server(flags) for flags in (scenarios.EVEN, (), None)]
        lines = proof.prove(*servers, layer)
        self.stop_servers()
        return {"date": today(), "lines": lines}

    def scenario(self, scenario):
        progress(f"({scenario.number}) making the image")
        layers = self.tree.need(scenario.image)
        rounds = 1 if scenario.once else self.options.rounds
        left_out, entries = [], []
        for name in scenario.tools:
            missing = self.tools[name].missing()
            if missing:
                left_out.append(f"{name}: left out, {missing}")
            elif self.wanted(name):
                entries.append((name, self.tools[name], scenario.server))
        entries += [(row, self.tools[name], server) for row, (name, server) in scenario.beside.items()]
        rows = {}
        for number in range(rounds):
            for row, tool, flags in entries:
                progress(f"({scenario.number}) round {number + 1} of {rounds}: {row}")
                self.one(scenario, rows, row, tool, self.server(flags), layers)
        progress("")
        for _, tool, _ in entries:
            tool.empty()
        self.stop_servers()
        return {
            "title": scenario.title if self.options.scale == 1 else f"{scenario.title}, times {self.options.scale:g}",
            "date": today(),
            "rounds": rounds,
            "rows": rows,
            "left_out": left_out,
            "targets": list(self.judge(scenario, rows)),
        }

    def wanted(self, name):
        return not self.options.tools or name.startswith("rpull") or any(part in name for part in self.options.tools.split(","))

    def one(self, scenario, rows, row, tool, server, layers):
        """One pull with one tool, its result added to the row."""
        known = rows.setdefault(row, {"runs": []})
        if known.get("failed"):
            return
        tool.start()
        try:
            if not scenario.again or not known["runs"]:
                tool.empty()
            # A daemon that has pulled before; and, for the scenario that pulls again, the image.
            if not known["runs"] and not scenario.once and not getattr(tool, "fresh", False) and tool.has_node:
                tool.run(server, scenario.image, layers)
                if not scenario.again:
                    tool.empty()
            # What earlier runs wrote is not to be written back during this one.
            os.sync()
            for name, result in tool.run(server, scenario.image, layers, traced=scenario.once).items():
                rows.setdefault(row if name == tool.name else name, {"runs": []})["runs"].append(result)
        except Failed as error:
            known["failed"] = f"{error}"
            self.failed |= isinstance(tool, tools.Rpull)

    def judge(self, scenario, rows):
        # The targets were set for these sizes and no others.
        for target in scenario.targets if self.options.scale == 1 else ():
            value = target.value(rows)
            met = None if value is None else bool(target.met(value))
            yield {"text": target.text, "value": value, "unit": target.unit, "met": met}

    def start_up(self):
        walls = []
        for _ in range(STARTS):
            begin = time.monotonic()
            subprocess.run([self.programs.rpull, "--version"], check=True, stdout=subprocess.DEVNULL)
            walls.append(time.monotonic() - begin)
        return {"date": today(), "walls": walls}

    def run(self, results):
        chosen = [scenario for scenario in scenarios.every(self.options.scale) if scenario.number in self.options.scenario]
        # The huge one last: it drives everything else out of the page cache.
        chosen.sort(key=lambda scenario: scenario.once)
        if any(scenario.server for scenario in chosen):
            results["proof"] = self.prove(next(scenario.image for scenario in chosen if scenario.server))
            print("servers:", *report.proof_lines(results["proof"]), sep="\n  ")
        for scenario in chosen:
            results["scenarios"][scenario.number] = self.scenario(scenario)
            print(report.text(scenario.number, results["scenarios"][scenario.number]), flush=True)
            save(self.options.results, results)
        if "start" in self.options.scenario:
            results["start"] = self.start_up()
            print(f"\n{report.start_line(results['start'])}")
            save(self.options.results, results)


def machine(programs):
    """What the numbers depend on, in general words."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = file.read()
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(re.search(r"MemTotal: +(\d+)", file.read())[1]) >> 20
    model = re.search(r"model name\s*: (.*)", cpu)
    sha = "with" if re.search(r"\bsha_ni\b|\bsha2\b", cpu) else "without"
    version = subprocess.run([programs.containerd, "--version"], capture_output=True, text=True, check=True).stdout
    snapshotter = "overlaybd-snapshotter" if programs.snapshotter else "testkit's stand-in for overlaybd-snapshotter"
    return [
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}, {sha} SHA instructions), {memory + 1} GiB, "
        f"Linux {'.'.join(platform.release().split('.')[:2])}; servers, daemons and tools share them",
        f"containerd {version.split()[2]}, {snapshotter}; everything on one filesystem, page cache as it comes",
    ]


def today():
    return date.today().isoformat()


def progress(text):
    """One line that is overwritten, on terminals only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def load(path):
    results = json.loads(path.read_text()) if path.is_file() else {}
    results.setdefault("scenarios", {})
    return results


def save(path, results):
    if path != Path(os.devnull):
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def need_space(options, folder):
    chosen = [scenario for scenario in scenarios.every(options.scale) if scenario.number in options.scenario]
    images = {scenario.image for scenario in chosen}
    stored = sum(image.bytes // (4 if image.sparse else 1) for image in images)
    # A pull that unpacks has everything twice; the huge image is pulled by rpull alone.
    pulled = max((image.bytes * (1 if image.sparse else 2) for image in images), default=0)
    needed, free = (stored + pulled) * 1.1, shutil.disk_usage(folder).free
    print(f"needs {needed / 2**30:.1f} GiB in {folder}, {free / 2**30:.0f} are free")
    if free < needed:
        raise SystemExit("that is not enough; TMPDIR may name a larger place")


def main():
    options = arguments()
    results = load(options.results)
    if options.markdown:
        report.write_into(DOCUMENT, results)
        print(f"written: {DOCUMENT}")
        return
    need_space(options, tempfile.gettempdir())
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    home = Path(tempfile.mkdtemp(prefix="rpull-bench."))
    try:
        bench = Bench(options, home)
        results["machine"] = machine(bench.programs)
        print(*results["machine"], sep="\n")
        bench.run(results)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Cleaning up takes minutes where a disk discards what is deleted; whoever grows impatient would leave it half done.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        Daemon.stop_all()
        clear(home)
    if bench.failed:
        raise SystemExit("rpull failed, see above")


main()
