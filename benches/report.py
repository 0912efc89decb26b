"""The figures of all sizes as Markdown: medians, ranges and ratios."""

import json
import math
from pathlib import Path
from statistics import median

TOOLS = ("cskpi", "duckdb", "polars")
NAMES = {"cskpi": "cskpi", "duckdb": "DuckDB", "polars": "Python polars"}
EVENTS = {"XS": 200_000, "S": 5_000_000, "M": 50_000_000, "2M": 100_000_000, "L": 200_000_000, "A": 5_000_000}
ACCOUNTS = {"XS": 500, "S": 10_000, "M": 100_000, "2M": 100_000, "L": 100_000, "A": 1_000_000}
MEASURES = {"wall": ("wall, s", 1), "cpu": ("CPU, s", 1), "megabytes": ("peak memory, MB", 0)}


def of(runs, name, measure):
    return [run[measure] for run in runs if run["name"] == name]


def shown(values, digits):
    """The median, and the range where there are several."""
    text = f"{median(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):,.{digits}f} – {max(values):,.{digits}f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def setting(figures):
    given = figures["setting"]
    versions = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    return [f"{given['date']}; load average before it {given['load']:.1f}; {versions}.", ""]


def full_backfill(figures):
    runs = figures["runs"]
    ratio = lambda tool, measure: median(of(runs, "cskpi", measure)) / median(of(runs, tool, measure))
    rows = [[NAMES[tool], *(shown(of(runs, tool, m), digits) for m, (_, digits) in MEASURES.items())] for tool in TOOLS]
    rows += [[f"**cskpi ÷ {NAMES[tool]}**", *(f"**{ratio(tool, measure):.2f}**" for measure in MEASURES)] for tool in TOOLS[1:]]
    count = len(of(runs, "cskpi", "wall"))
    lines = ["### Full backfill", "", *setting(figures), f"Median (smallest – largest) of {count} runs each, in turn.", ""]
    lines += table(["", *(name for name, _ in MEASURES.values())], rows)
    for tool in TOOLS[1:]:
        lines += [f"cskpi's tables against those of {NAMES[tool]}: {'; '.join(figures['equal'][tool])}.", ""]
    return lines


def cheapest(figures, work):
    """The variant of least CPU, with its medians."""
    names = {run["name"] for run in figures["runs"] if run["name"].startswith(work)}
    best = min(names, key=lambda name: median(of(figures["runs"], name, "cpu")))
    return best, {measure: median(of(figures["runs"], best, measure)) for measure in MEASURES}


def floor(figures, full):
    names = dict.fromkeys(run["name"] for run in figures["runs"])
    rows = [[name, *(shown(of(figures["runs"], name, m), digits) for m, (_, digits) in MEASURES.items())] for name in names]
    lines = ["### Floor", "", *setting(figures), "Reading account, user, instant and feature of all events; the same grouped by account, user and day (all but the feature).", ""]
    lines += table(["", *(name for name, _ in MEASURES.values())], rows)
    for work in ("scan", "distinct"):
        name, best = cheapest(figures, work)
        text = f"Cheapest {work}: {name}: {best['wall']:.1f} s wall, {best['cpu']:.1f} s CPU."
        if full:
            runs = full["runs"]
            text += " A full backfill takes " + ", ".join(
                f"{median(of(runs, tool, 'wall')) / best['wall']:.1f} × its wall and {median(of(runs, tool, 'cpu')) / best['cpu']:.1f} × its CPU in {NAMES[tool]}" for tool in TOOLS) + "."
        lines += [text, ""]
    return lines


def increment(figures):
    full, nights = figures["full"], figures["runs"]
    rows = [["full backfill before", *(shown([full[m]], digits) for m, (_, digits) in MEASURES.items())],
            [f"a night ({len(nights)} in a row)", *(shown([night[m] for night in nights], digits) for m, (_, digits) in MEASURES.items())],
            ["**full ÷ night**", *(f"**{full[m] / median([night[m] for night in nights]):.1f}**" for m in MEASURES)]]
    lines = ["### Nightly increment", "", *setting(figures), "One more day's file of events, and `run --period` of the last month.", ""]
    lines += table(["", *(name for name, _ in MEASURES.values())], rows)
    return lines + [f"What the nights came to against one run over everything: {'; '.join(figures['equal'])}.", ""]


def months(figures):
    runs = figures["runs"]
    names = ("all months", "one month")
    rows = [[name, *(shown(of(runs, name, m), digits) for m, (_, digits) in MEASURES.items())] for name in names]
    rows.append(["**all ÷ one**", *(f"**{median(of(runs, names[0], m)) / median(of(runs, names[1], m)):.2f}**" for m in MEASURES)])
    return ["### All months against one", "", *setting(figures), "`backfill` of all, and of the last one alone, each from nothing.", "", *table(["", *(name for name, _ in MEASURES.values())], rows)]


def by_size(results):
    """Cost against the number of events. From S to M the accounts grow, too; from M on only the events."""
    sizes = [size for size in EVENTS if size not in ("XS", "A") and "tables" in results.get(size, {})]
    if len(sizes) < 2:
        return []
    rows = []
    for tool in TOOLS:
        for measure, (name, digits) in MEASURES.items():
            values = [median(of(results[size]["tables"]["runs"], tool, measure)) for size in sizes]
            steps = [f"{b / a:.2f} (^{math.log(b / a) / math.log(EVENTS[y] / EVENTS[x]):.2f})" for (x, a), (y, b) in zip(zip(sizes, values), list(zip(sizes, values))[1:])]
            rows.append([f"{NAMES[tool]}, {name}", *(f"{value:,.{digits}f}" for value in values), *steps])
    head = ["", *(f"{size}: {EVENTS[size] // 1_000_000} M events" for size in sizes), *(f"{a} → {b}" for a, b in zip(sizes, sizes[1:]))]
    return ["## Cost by size", "", "Medians; → is the factor, and in brackets the exponent e of cost ~ events^e. S has 10,000 accounts, the others 100,000.", "", *table(head, rows)]


def write(folder, file):
    """Writes the report of every size that has figures in `folder`."""
    results = {}
    for size in EVENTS:
        kept = folder / size / "results.json"
        if kept.exists():
            results[size] = json.loads(kept.read_text())
    if not results:
        return
    newest = max((part["setting"] for parts in results.values() for part in parts.values()), key=lambda s: s["date"])
    on = newest["machine"]
    lines = [
        "# Results", "", "Written by `python3 benches/run.py`; do not edit. Times are of processes of their own on two cores, with the files in the page cache.", "",
        f"Machine: {on['cpu']}, {on['cores']} cores, {on['memory_gib']} GiB, Linux {on['kernel']}.", "",
        "```sh", "cargo build --release --locked", *(f"python3 benches/run.py {size} --only {','.join(parts)}" for size, parts in results.items()), "```", "", *by_size(results)]
    for size, parts in results.items():
        lines += [f"## {size}: {EVENTS[size]:,} events, {ACCOUNTS[size]:,} accounts", ""]
        if "tables" in parts:
            lines += full_backfill(parts["tables"])
        if "floor" in parts:
            lines += floor(parts["floor"], parts.get("tables"))
        if "increment" in parts:
            lines += increment(parts["increment"])
        if "months" in parts:
            lines += months(parts["months"])
    lines += [(Path(__file__).parent / "limits.md").read_text()]
    file.write_text("\n".join(lines).rstrip() + "\n")
