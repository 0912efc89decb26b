#!/usr/bin/env python3
"""One command for all of the bench: workload, runs, comparison, figures.

    python3 benches/run.py S                     the parts below, for one size or several
    python3 benches/run.py S M --only tables
    python3 benches/run.py XS --check            only whether the three give equal tables; exit code 1 if not

Parts:
    tables      full backfill: cskpi, DuckDB, polars, in turn; compared, then measured
    floor       reading the event columns, and grouping them by account, user and day
    increment   one more day's file after a full backfill, five nights in a row
    months      backfill of all months against one month

Every run is a process of its own, on two cores; cskpi's results and caches are removed before each full backfill. Figures go to DIR/SIZE/results.json, and
those of all sizes found there to benches/RESULTS.md.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import report
from measure import HERE, REPOSITORY, Bound, Failed, machine, measured, output_of, python, use_two_cores, warmed

BEGIN = datetime.date(2023, 4, 1)
MONTHS = {"XS": 6, "S": 36, "M": 36, "2M": 36, "L": 36, "A": 36}
PAIRS = {"XS": 1, "S": 5, "M": 5, "2M": 1, "L": 1, "A": 1}
PARTS = ("tables", "floor", "increment", "months")
TABLES = "account_period,kpi_values,mrr_movements,cohort_retention"
NIGHTS = 5


def month_after(date, count):
    month = 12 * date.year + date.month - 1 + count
    return datetime.date(month // 12, month % 12 + 1, 1)


def morning(day):
    """An instant at which the day before is over."""
    return f"{day}T06:00:00+09:00"


class Bench:
    """One size: where its files lie, and the commands over them."""

    def __init__(self, size, given, interpreter):
        self.size, self.given, self.interpreter = size, given, interpreter
        self.folder = given.dir.resolve() / size
        self.data, self.out, self.logs = self.folder / "data", self.folder / "out", self.folder / "logs"
        self.end = month_after(BEGIN, MONTHS[size])
        self.last = month_after(self.end, -1)
        self.bound = Bound(given.minutes)
        self.pairs = given.pairs or PAIRS[size]

    def make_workload(self):
        subprocess.run([self.interpreter, HERE / "workload.py", self.size, "--dir", self.given.dir.resolve()], check=True)
        self.logs.mkdir(exist_ok=True)

    def cskpi(self, name, verb, out, as_of, data=None, *words):
        command = [self.given.cskpi, "--quiet", verb, HERE / "pipeline.yaml", "--as-of", morning(as_of), "--select", TABLES, *words]
        environment = {"DATA": str(data or self.data), "OUT": str(out), "END": str(self.end), "POLARS_MAX_THREADS": "2"}
        return measured(name, command, self.bound, environment, self.logs / f"{name}.log")

    def full(self, tool):
        """All tables of all periods, from nothing."""
        out = self.out / tool
        shutil.rmtree(out, ignore_errors=True)
        if tool == "cskpi":
            return self.cskpi(tool, "backfill", out, self.end)
        command = [self.interpreter, HERE / f"{tool}_tables.py", "--data", self.data, "--out", out, "--begin", BEGIN, "--months", MONTHS[self.size], "--threads", 2]
        return measured(tool, command, self.bound, None, self.logs / f"{tool}.log")

    def compare(self, left, right):
        print(f"{left.name} and {right.name}:", flush=True)
        done = subprocess.run([self.interpreter, HERE / "compare.py", left, right], capture_output=True, text=True)
        print("  " + (done.stdout + done.stderr).strip().replace("\n", "\n  "), flush=True)
        if done.returncode != 0:
            raise Failed(f"{left} and {right} differ")
        return done.stdout.strip().splitlines()

    # ── parts ──

    def check(self):
        """The three tools, once each, and their tables compared."""
        for tool in report.TOOLS:
            told(self.full(tool))
        return {other: self.compare(self.out / "cskpi", self.out / other) for other in report.TOOLS[1:]}

    def tables(self):
        equal = self.check()
        # Those were the runs that warm every cache; now in turn.
        runs = [told(self.full(tool)) for _ in range(self.pairs) for tool in report.TOOLS]
        return {"equal": equal, "runs": [run.as_json() for run in runs]}

    def floor(self):
        runs = []
        for _ in range(min(self.pairs, 3)):
            for work in ("scan", "distinct"):
                for engine in ("duckdb", "polars"):
                    for pieces in ("all", "month", "day"):
                        command = [self.interpreter, HERE / "floor.py", engine, work, pieces, "--data", self.data]
                        runs.append(told(measured(f"{work}, {engine}, {pieces}", command, self.bound, None, self.logs / "floor.log")))
        return {"runs": [run.as_json() for run in runs]}

    def increment(self):
        """A backfill up to some days before the end; then every night one more day's file and the last period again."""
        folder = self.folder / "increment"
        shutil.rmtree(folder, ignore_errors=True)
        data, out = folder / "data", folder / "out"
        (data / "usage_events").mkdir(parents=True)
        for file in self.data.glob("*.parquet"):
            os.link(file, data / file.name)
        files = sorted((self.data / "usage_events").glob("*.parquet"))
        for file in files[:-NIGHTS]:
            os.link(file, data / "usage_events" / file.name)
        period = f"{self.last:%Y-%m}"
        full = told(self.cskpi("full before the nights", "backfill", out, self.end - datetime.timedelta(days=NIGHTS), data, "--end", f"{self.end:%Y-%m}"))
        nights = []
        for file in files[-NIGHTS:]:
            os.link(file, data / "usage_events" / file.name)
            day = datetime.date.fromisoformat(file.stem)
            nights.append(told(self.cskpi("night", "run", out, day + datetime.timedelta(days=1), data, "--period", period)))
        # Night by night must come to what one run makes of everything.
        whole = self.out / "cskpi"
        if not whole.is_dir():
            told(self.full("cskpi"))
        equal = self.compare(out, whole)
        return {"full": full.as_json(), "runs": [night.as_json() for night in nights], "equal": equal}

    def months(self):
        runs = []
        for _ in range(min(self.pairs, 3)):
            for name, words in (("all months", []), ("one month", ["--start", f"{self.last:%Y-%m}"])):
                out = self.folder / "months"
                shutil.rmtree(out, ignore_errors=True)
                runs.append(told(self.cskpi(name, "backfill", out, self.end, None, *words)))
        shutil.rmtree(self.folder / "months", ignore_errors=True)
        return {"runs": [run.as_json() for run in runs]}


def told(run):
    print(f"{run.name:28} {run.wall:8.2f} s wall {run.cpu:8.2f} s CPU {run.megabytes:8.0f} MB", flush=True)
    return run


def setting(given, interpreter):
    """What the figures hold for."""
    versions = output_of([interpreter, "-c", "import duckdb, polars, pyarrow, numpy; print(duckdb.__version__, polars.__version__, pyarrow.__version__, numpy.__version__)"]).split()
    commit = output_of(["git", "rev-parse", "--short", "HEAD"])
    is_clean = output_of(["git", "status", "--porcelain", "--untracked-files=no"]) == ""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine(), "load": os.getloadavg()[0],
        "versions": {"cskpi": output_of([given.cskpi, "--version"]).removeprefix("cskpi ") + f" at {commit}" + ("" if is_clean else " with changes"),
                     "python": sys.version.split()[0], **dict(zip(("duckdb", "polars", "pyarrow", "numpy"), versions))},
    }


def run_size(bench, parts):
    """Runs the parts and keeps the figures of each as soon as they are there."""
    file = bench.folder / "results.json"
    for part in parts:
        print(f"\n{bench.size}: {part}", flush=True)
        figures = {"setting": setting(bench.given, bench.interpreter), **getattr(bench, part)()}
        results = json.loads(file.read_text()) if file.exists() else {}
        results[part] = figures
        file.write_text(json.dumps(results, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", choices=[*MONTHS, []], metavar="SIZE", help="XS S M 2M L A")
    parser.add_argument("--dir", type=Path, default=REPOSITORY / "target/bench", help="where workload and results lie (target/bench)")
    parser.add_argument("--cskpi", type=Path, default=REPOSITORY / "target/release/cskpi", help="the program (target/release/cskpi)")
    parser.add_argument("--python", type=Path, help="an interpreter that has benches/requirements.txt, in place of an environment under target")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of the parts: {','.join(PARTS)}")
    parser.add_argument("--pairs", type=int, help="rounds of the three tools (5 for S and M, 1 for the others)")
    parser.add_argument("--minutes", type=float, default=240, help="stop when a size has taken so long")
    parser.add_argument("--check", action="store_true", help="only whether the tables are equal")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="the report (benches/RESULTS.md)")
    given = parser.parse_args()
    given.cskpi = given.cskpi.resolve()
    parts = given.only.split(",")
    if odd := [part for part in parts if part not in PARTS]:
        parser.error(f"--only {odd[0]}: there is {', '.join(PARTS)}")
    if not given.cskpi.is_file():
        parser.error(f"{given.cskpi} is not there: cargo build --release --locked")
    # Not resolved: the link itself is what makes it an environment.
    interpreter = given.python.absolute() if given.python else python(REPOSITORY / "target")
    use_two_cores()
    try:
        for size in given.sizes:
            bench = Bench(size, given, interpreter)
            bench.make_workload()
            warmed(bench.data)
            if given.check:
                bench.check()
            else:
                run_size(bench, parts)
    except Failed as failure:
        sys.exit(f"error: {failure}")
    finally:
        if not given.check:
            report.write(given.dir, given.results)
            print(f"\n{given.results}")


if __name__ == "__main__":
    main()
