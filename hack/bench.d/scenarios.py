"""The scenarios: which image, over which server, by which tools, and what was to be reached."""

from dataclasses import dataclass, field
from statistics import median

from stage import Image

MIB = 1 << 20
GIB = 1 << 30

RPULL = "rpull"
API = "rpull, api store"
SLOW_DISK = "rpull, 32 connections, slow disk"
WARM = "ctr images pull, warm"
FRESH = "ctr images pull, fresh"
FETCH = "ctr content fetch"
UPSTREAM = "upstream rpull"
SKOPEO = "skopeo copy"
ARIA = "aria2c -x16 + sha256sum"
ARIA_ALONE = "aria2c -x16, no hash"

ALL = (RPULL, WARM, FETCH, UPSTREAM, SKOPEO, ARIA)
# What has more than one connection.
PARALLEL = (RPULL, WARM, ARIA)

RATE = 50 * MIB
EVEN = ("--rate", str(RATE))
UNEVEN = (*EVEN, "--slow", f"8:{2 * MIB}")


@dataclass(frozen=True)
class Target:
    """`value(rows)` has to be at least or at most `limit`; None when a tool it needs did not run."""

    text: str
    value: object
    limit: float
    at_least: bool = False
    unit: str = ""

    def met(self, value):
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Scenario:
    """`server` are the flags of testkit's server, None stands for nginx. `beside` are rows over another server."""

    number: str
    title: str
    image: Image
    tools: tuple
    server: tuple = None
    beside: dict = field(default_factory=dict)
    # Measured with the image there already.
    again: bool = False
    # Once, with the memory of rpull along the way.
    once: bool = False
    targets: tuple = ()


def middle(rows, tool, key):
    values = [run[key] for run in rows.get(tool, {}).get("runs", []) if key in run]
    return median(values) if values else None


def quotient(tool, other):
    def value(rows):
        pair = middle(rows, tool, "wall"), middle(rows, other, "wall")
        return None if None in pair else pair[0] / pair[1]

    return value


def of(tool, key, scale=1.0):
    def value(rows):
        found = middle(rows, tool, key)
        return None if found is None else found * scale

    return value


def growth(rows):
    """MiB by which the peak of the second half of a pull is above that of the first."""
    trace = [kib for run in rows.get(RPULL, {}).get("runs", []) for _, kib in run.get("trace", [])]
    half = len(trace) // 2
    return (max(trace[half:]) - max(trace[:half])) / 1024 if half else None


def faster(other, factor):
    return Target(f"rpull ≥ {factor:g} × as fast as {other}", quotient(other, RPULL), factor, at_least=True, unit="×")


def every(scale):
    """All scenarios, their images `scale` times as large."""

    def image(tag, count, size, sparse=False):
        return Image(tag, count, max(int(size * scale), 64 << 10), sparse)

    one, half = image("one", 1, GIB), image("half", 1, 512 * MIB)
    slow = "rpull, no slow connection"
    return [
        Scenario(
            "1",
            "1 × 1 GiB, unthrottled",
            one,
            (RPULL, WARM, FRESH, FETCH, UPSTREAM, SKOPEO, ARIA),
            targets=(
                faster(WARM, 2),
                faster(UPSTREAM, 4),
                faster(ARIA_ALONE, 1.6),
                Target("CPU of the daemon ≤ 0.1 s", of(RPULL, "daemon_cpu"), 0.1, unit="s"),
            ),
        ),
        Scenario(
            "2",
            "1 × 512 MiB, 50 MiB/s per connection",
            half,
            ALL,
            EVEN,
            targets=(Target("rpull ≤ 0.95 s (16 connections allow 0.64)", of(RPULL, "wall"), 0.95, unit="s"),),
        ),
        Scenario("3", "4 × 256 MiB, unthrottled", image("four", 4, 256 * MIB), ALL),
        Scenario(
            "4",
            "64 × 2 MiB, 20 ms latency",
            image("many", 64, 2 * MIB),
            ALL,
            ("--latency", "20"),
            targets=(Target(f"rpull ≤ 0.6 × the time of {WARM}", quotient(RPULL, WARM), 0.6, unit="×"),),
        ),
        Scenario("5", "1 × 512 MiB, 100 ms latency", half, ALL, ("--latency", "100")),
        Scenario(
            "6",
            "1 × 512 MiB, 50 MiB/s per connection, one connection in eight 2 MiB/s",
            half,
            PARALLEL,
            UNEVEN,
            beside={slow: (RPULL, EVEN)},
            targets=(
                Target("rpull ≤ 1.5 × its time without slow connections", quotient(RPULL, slow), 1.5, unit="×"),
            ),
        ),
        Scenario(
            "7",
            "1 × 1 GiB again, everything is there",
            one,
            (RPULL, WARM, FETCH, UPSTREAM),
            again=True,
            targets=(Target("rpull ≤ 60 ms", of(RPULL, "wall", 1000), 60, unit="ms"),),
        ),
        Scenario(
            "8",
            "1 × 20 GiB of zeros, unthrottled",
            image("huge", 1, 20 * GIB, sparse=True),
            (RPULL,),
            once=True,
            targets=(
                Target("peak memory ≤ 64 MiB", of(RPULL, "rss", 1 / 1024), 64, unit="MiB"),
                Target("flat: second half ≤ 4 MiB above the first", growth, 4, unit="MiB"),
            ),
        ),
        Scenario(
            "9",
            "1 × 1 GiB, unthrottled, api store",
            one,
            (API, FETCH),
            targets=(Target(f"rpull ≤ 1 × the time of {FETCH}", quotient(API, FETCH), 1, unit="×"),),
        ),
        Scenario(
            "10",
            "1 × 512 MiB, unthrottled, 32 connections from the start, every write waits for the disk",
            half,
            (SLOW_DISK,),
            (),
            targets=(Target("peak memory ≤ 64 MiB", of(SLOW_DISK, "rss", 1 / 1024), 64, unit="MiB"),),
        ),
    ]
