"""Results as text: for the terminal, and as Markdown for docs/performance.md."""

import re
from statistics import median

BEGIN, END = "<!-- hack/bench writes from here -->\n", "<!-- hack/bench writes up to here -->\n"
HEADINGS = (
    "",
    "wall, median of {rounds}",
    "spread",
    "rpull is",
    "puller: CPU",
    "peak memory",
    "daemon: CPU",
    "peak memory",
    "server: CPU",
)


def seconds(value):
    return f"{value * 1000:.0f} ms" if value < 0.2 else f"{value:.2f} s"


def cells(name, row, own):
    """One line of a table."""
    runs = row.get("runs", [])
    if not runs:
        return [name, row["failed"]] + [""] * (len(HEADINGS) - 2)

    def middle(key, show):
        values = [run[key] for run in runs if key in run]
        return show(median(values)) if values else "–"

    walls = [run["wall"] for run in runs]
    ratio = "" if own in (None, median(walls)) else f"{median(walls) / own:.2f} × as fast"
    mib = lambda kib: f"{kib / 1024:.0f} MiB"
    cpu = lambda value: f"{value:.2f} s"
    note = f" ({row['failed']})" if row.get("failed") else ""
    return [
        name + note,
        seconds(median(walls)),
        f"{seconds(min(walls))} – {seconds(max(walls))}",
        ratio,
        middle("cpu", cpu),
        middle("rss", mib),
        middle("daemon_cpu", cpu),
        middle("daemon_rss", mib),
        middle("server_cpu", cpu),
    ]


def table(scenario):
    """Heading and lines of a scenario's table."""
    rows = scenario["rows"]
    first = next(iter(rows.values()))["runs"]
    own = median(run["wall"] for run in first) if first else None
    heading = [text.format(rounds=scenario["rounds"]) for text in HEADINGS]
    return heading, [cells(name, row, own) for name, row in rows.items()]


def verdicts(scenario):
    for target in scenario["targets"]:
        value, unit = target["value"], target["unit"]
        if value is None:
            yield f"{target['text']}: not measured"
            continue
        yield f"{target['text']}: {value:.2f} {unit}, {'met' if target['met'] else 'MISSED'}"


def traces(scenario):
    """Memory along the way, a dozen points of it."""
    for row in scenario["rows"].values():
        for run in row["runs"]:
            trace = run.get("trace", [])
            chosen = trace[:: max(1, len(trace) // 12)]
            if chosen:
                yield "rpull's memory over time: " + ", ".join(f"{at:.0f} s {kib / 1024:.0f} MiB" for at, kib in chosen)


def aligned(heading, lines):
    widths = [max(map(len, column)) for column in zip(heading, *lines)]
    for line in (heading, *lines):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()


def piped(heading, lines):
    yield "| " + " | ".join(heading) + " |"
    yield "|---|" + "--:|" * (len(heading) - 1)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def proof_lines(proof):
    for text, value, expected, holds in proof["lines"]:
        wanted = f" of {expected:.0f}" if expected else ""
        verdict = "" if not expected else ", holds" if holds else ", DOES NOT HOLD"
        yield f"{text}: {value:.1f}{wanted} MiB/s{verdict}"


def text(number, scenario):
    """For the terminal."""
    lines = [f"\n({number}) {scenario['title']}", *aligned(*table(scenario))]
    lines += [f"  {line}" for line in (*traces(scenario), *verdicts(scenario), *scenario["left_out"])]
    return "\n".join(lines)


def markdown(results):
    """Everything that was kept."""
    out = []
    if machine := results.get("machine"):
        out += [f"- {line}" for line in machine] + [""]
    if proof := results.get("proof"):
        out += [f"### The servers ({proof['date']})", "", *(f"- {line}" for line in proof_lines(proof)), ""]
    for number, scenario in sorted(results["scenarios"].items(), key=lambda entry: int(entry[0])):
        out += [f"### ({number}) {scenario['title']} ({scenario['date']})", "", *piped(*table(scenario)), ""]
        lines = (*traces(scenario), *verdicts(scenario), *scenario["left_out"])
        out += [f"- {line}" for line in lines] + [""] * bool(lines)
    if start := results.get("start"):
        out += [f"### Start-up ({start['date']})", "", f"- {start_line(start)}", ""]
    return "\n".join(out)


def start_line(start):
    walls = start["walls"]
    return f"rpull --version, median of {len(walls)}: {median(walls) * 1000:.1f} ms ({min(walls) * 1000:.1f} – {max(walls) * 1000:.1f})"


def write_into(path, results):
    """Replaces what is between our two marks."""
    old = path.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(old):
        raise SystemExit(f"{path} does not have the two marks between which results are written")
    path.write_text(marked.sub(lambda _: f"{BEGIN}\n{markdown(results)}\n{END}", old), encoding="utf-8")
