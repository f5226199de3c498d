"""The tools: what each runs for the same image, and how it is brought back to having nothing."""

import shutil
import subprocess
from pathlib import Path

from processes import measure
from stage import REPOSITORY, Node


class Tool:
    """One way to get an image onto this machine. `name` is its row in the tables."""

    # Needs a containerd; attaches what it fetched; goes on with what is there already.
    has_node = attaches = keeps = True

    def __init__(self, name, home, programs):
        self.name, self.home, self.programs = name, home, programs
        self.node = None

    def missing(self):
        """What has to be there and is not."""

    def start(self):
        self.home.mkdir(exist_ok=True)
        if self.has_node and not self.node:
            self.node = Node(self.home / "node", self.programs)

    def commands(self, server, image, layers):
        """The commands of one pull; most need one."""
        raise NotImplementedError

    def empty(self):
        """Back to nothing."""
        if self.node:
            self.node.empty()

    def run(self, server, image, layers, traced=False):
        """One pull. Results by the name of their row: a tool with two commands has one row for the first alone, too."""
        commands = self.commands(server, image, layers)
        watched = self.node.containerd if self.node else None
        if watched:
            watched.forget_peak()
        before = watched.cpu() if watched else 0, server.daemon.cpu()
        wall = cpu = rss = 0
        results, trace = {}, []
        for number, (name, command) in enumerate(commands):
            use = measure(command, self.home, image.bytes, traced)
            wall, cpu, rss = wall + use.wall, cpu + use.cpu, max(rss, use.rss)
            trace += use.trace
            results[name] = {"wall": wall, "cpu": cpu, "rss": rss, "server_cpu": server.daemon.cpu() - before[1]}
            if watched and number == 0:
                results[name] |= {"daemon_cpu": watched.cpu() - before[0], "daemon_rss": watched.peak()}
        if traced:
            results[name]["trace"] = trace
        if self.node:
            self.node.check(layers, self.attaches)
        return results

    def reference(self, server, image):
        return f"{server.address}/{REPOSITORY}:{image.tag}"


class Rpull(Tool):
    def __init__(self, name, home, programs, store, flags=()):
        super().__init__(name, home, programs)
        self.flags = ["--store", store, *flags]

    def commands(self, server, image, layers):
        flags = ["--address", self.node.socket, "--plain-http", *self.flags]
        yield self.name, [self.programs.rpull, *flags, self.reference(server, image)]


class RpullOnSlowDisk(Rpull):
    """A disk that is slower than loopback whatever it is: every write waits until it is there."""

    SIZE = 4 << 30

    def missing(self):
        return None if shutil.which("mkfs.ext4") else "there is no mkfs.ext4"

    def start(self):
        if not self.node:
            self.home.mkdir()
            disk = self.home.with_suffix(".ext4")
            with open(disk, "wb") as file:
                file.truncate(self.SIZE)
            subprocess.run(["mkfs.ext4", "-q", disk], check=True)
            subprocess.run(["mount", "-o", "loop,sync", disk, self.home], check=True)
        super().start()


class Multipart(Tool):
    """containerd's own pull, which unpacks through the snapshotter."""

    def __init__(self, name, home, programs, fresh=False):
        super().__init__(name, home, programs)
        self.fresh = fresh

    def empty(self):
        super().empty()
        if self.fresh:
            self.node.restart()

    def commands(self, server, image, layers):
        flags = ["images", "pull", "--plain-http", "--snapshotter", "overlaybd"]
        yield self.name, [self.programs.ctr, "--address", self.node.socket, *flags, self.reference(server, image)]


class ContentFetch(Tool):
    attaches = False

    def commands(self, server, image, layers):
        flags = ["content", "fetch", "--plain-http"]
        yield self.name, [self.programs.ctr, "--address", self.node.socket, *flags, self.reference(server, image)]


class Upstream(Tool):
    """accelerated-container-image's `ctr rpull`."""

    def missing(self):
        return None if self.programs.upstream else "UPSTREAM_CTR names none"

    def commands(self, server, image, layers):
        flags = ["rpull", "--plain-http", "--snapshotter", "overlaybd", "--download-blobs"]
        yield self.name, [self.programs.upstream, "--address", self.node.socket, *flags, self.reference(server, image)]


class Files(Tool):
    """A tool that only makes files."""

    has_node = keeps = False

    def missing(self):
        return None if shutil.which(self.program) else f"there is no {self.program}"

    def empty(self):
        shutil.rmtree(self.home / "files", ignore_errors=True)
        (self.home / "files").mkdir()


class Skopeo(Files):
    program = "skopeo"

    def commands(self, server, image, layers):
        flags = ["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"]
        source, target = f"docker://{self.reference(server, image)}", f"dir:{self.home}/files"
        yield self.name, ["skopeo", *flags, source, target]


class Aria(Files):
    program = "aria2c"

    def commands(self, server, image, layers):
        (self.home / "urls").write_text(
            "".join(
                f"http://{server.address}/v2/{REPOSITORY}/blobs/{digest}\n out={digest[7:]}\n" for digest, _ in layers
            )
        )
        (self.home / "sums").write_text("".join(f"{digest[7:]}  files/{digest[7:]}\n" for digest, _ in layers))
        flags = ["--no-conf", "--quiet", "-x16", "-s16", "-j16", "-k1M", "--file-allocation=falloc"]
        yield "aria2c -x16, no hash", ["aria2c", *flags, f"--dir={self.home}/files", f"--input-file={self.home}/urls"]
        yield self.name, ["sha256sum", "--check", "--quiet", self.home / "sums"]


def every(home: Path, programs):
    """All tools by name, in the order of the tables; rpull first."""
    makers = {
        "rpull": lambda *own: Rpull(*own, "direct"),
        "rpull, api store": lambda *own: Rpull(*own, "api"),
        "rpull, 32 connections, slow disk": lambda *own: RpullOnSlowDisk(*own, "direct", ["--tune", "first-connections=32"]),
        "ctr images pull, warm": Multipart,
        "ctr images pull, fresh": lambda *own: Multipart(*own, fresh=True),
        "ctr content fetch": ContentFetch,
        "upstream rpull": Upstream,
        "skopeo copy": Skopeo,
        "aria2c -x16 + sha256sum": Aria,
    }
    # Short names of folders: a socket's path may have 107 bytes.
    return {name: make(name, home / f"tool{number}", programs) for number, (name, make) in enumerate(makers.items())}
