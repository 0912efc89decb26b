"""Reads every published table by glob with three readers that are not ours, and checks that they see the same, and what the contract says.

    python read_all.py ROOT --schemas schemas/output --digits 0 [--without rfm_scores,rfm_boundaries]

DuckDB, pyarrow.dataset and polars, each with hive partitioning: the same rows, the same sums of money; names, order and types of columns as in the
contract; nothing but period=YYYY-MM-DD/part-0.parquet under a table; rows of the period that the folder names; row groups that readers
can split their work by. Exit code 1 and one line per failure.
"""

import argparse
import os
import re
import sys
from decimal import Decimal
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "2")

import duckdb
import polars
import pyarrow.dataset
import pyarrow.parquet
import yaml

ROW_GROUP_ROWS = 122_880
PERIOD_FOLDER = re.compile(r"period=\d{4}-\d{2}-\d{2}")


def types_of(kind, digits):
    """Type of a contract's column as DuckDB, pyarrow and polars name it."""
    return {
        "date": ("DATE", "date32[day]", "Date"),
        "text": ("VARCHAR", "string", "String"),
        "integer": ("BIGINT", "int64", "Int64"),
        "float": ("DOUBLE", "double", "Float64"),
        "boolean": ("BOOLEAN", "bool", "Boolean"),
        "money": (f"DECIMAL(18,{digits})", f"decimal128(18, {digits})", f"Decimal(precision=18, scale={digits})"),
        "instant": ("TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]", "Datetime(time_unit='us', time_zone='UTC')"),
    }[kind]


def contract_of(file, dimensions, metrics):
    """(column, kind) in order; a `*` stands for the pipeline's dimensions or metrics."""
    columns = []
    for column in yaml.safe_load(file.read_text(encoding="utf-8"))["columns"]:
        names = {"dimensions": dimensions, "metrics": metrics}[column["each"]] if "each" in column else [column["name"]]
        columns += [(name, column["type"]) for name in names]
    return columns


class Table:
    def __init__(self, root, name, columns, digits):
        self.folder, self.name, self.columns, self.digits = root / name, name, columns, digits
        self.failures = []

    def expect(self, what, found, expected):
        if found == expected:
            return
        if isinstance(found, dict):
            differing = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
            found, expected = ({name: side.get(name) for name in differing} for side in (found, expected))
        self.failures.append(f"{self.name}: {what}: found {found}, expected {expected}")

    def check(self):
        self.files()
        if self.failures:
            return
        rows, sums = zip(*(reader() for reader in (self.duckdb, self.pyarrow, self.polars)))
        self.expect("rows by DuckDB, pyarrow, polars", rows, (self.rows,) * 3)
        self.expect("sums of money by DuckDB and pyarrow", sums[0], sums[1])
        self.expect("sums of money by DuckDB and polars", sums[0], sums[2])

    def files(self):
        """Layout and metadata, file by file."""
        found = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        odd = [file for file in found if not re.fullmatch(PERIOD_FOLDER.pattern + r"/part-0\.parquet", file)]
        self.expect("files beside period=YYYY-MM-DD/part-0.parquet", odd, [])
        found = [file for file in found if file not in odd]
        self.rows = 0
        names = [name for name, _ in self.columns]
        if not found:
            self.failures.append(f"{self.name}: no files")
        self.periods = {file[7:17] for file in found}
        for file in found:
            opened = pyarrow.parquet.ParquetFile(self.folder / file)
            meta = opened.metadata
            self.rows += meta.num_rows
            self.expect(f"{file}: types", arrow_types(opened.schema_arrow), self.expected_types(1))
            if set(opened.schema_arrow.names) == set(names):
                self.expect(f"{file}: order of columns", opened.schema_arrow.names, names)
            groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
            self.expect(f"{file}: row groups of more than {ROW_GROUP_ROWS} rows", [g.num_rows for g in groups if g.num_rows > ROW_GROUP_ROWS], [])
            # Only the last one may be smaller.
            self.expect(f"{file}: row groups", len(groups), max(1, -(-meta.num_rows // ROW_GROUP_ROWS)) if meta.num_rows else len(groups))
            codecs = {g.column(i).compression for g in groups for i in range(g.num_columns)}
            self.expect(f"{file}: compression", codecs - {"ZSTD"}, set())
            for i in range(meta.num_columns):
                column = meta.schema.column(i)
                logical = str(column.logical_type).lower()
                if "nano" in logical or "issigned=false" in logical or column.physical_type == "INT96" or column.max_repetition_level or column.max_definition_level > 1:
                    self.failures.append(f"{self.name}: {file}: {column.name} is {column.physical_type} {logical}")
            starts = opened.read(columns=["period_start"]).column(0).unique().to_pylist()
            if meta.num_rows:
                self.expect(f"{file}: period_start", [str(day) for day in starts], [file[7:17]])
        self.expect("names with capitals", [name for name in names if name != name.lower()], [])
        self.expect("a column `period` inside", "period" in names, False)

    def expected_types(self, reader):
        return {name: types_of(kind, self.digits)[reader] for name, kind in self.columns}

    def money(self):
        return [name for name, kind in self.columns if kind == "money"]

    def duckdb(self):
        con = duckdb.connect()
        con.execute("SET threads = 2")
        con.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet('{self.folder}/*/*.parquet', hive_partitioning = true)")
        types = {row[0]: row[1] for row in con.execute("DESCRIBE t").fetchall()}
        self.expect("the partition's column by DuckDB", types.pop("period", None), "DATE")
        self.expect("types by DuckDB", types, self.expected_types(0))
        wrong = con.execute("SELECT count(*) FROM t WHERE period <> period_start").fetchone()[0]
        self.expect("rows in another period's folder by DuckDB", wrong, 0)
        sums = {name: con.execute(f'SELECT sum("{name}") FROM t').fetchone()[0] for name in self.money()}
        return con.execute("SELECT count(*) FROM t").fetchone()[0], decimals(sums)

    def pyarrow(self):
        data = pyarrow.dataset.dataset(self.folder, format="parquet", partitioning="hive")
        types = arrow_types(data.schema)
        self.expect("the partition's column by pyarrow", types.pop("period", None), "string")
        self.expect("types by pyarrow", types, self.expected_types(1))
        table = data.to_table(columns=self.money() + ["period"])
        self.expect("periods by pyarrow", set(table.column("period").unique().to_pylist()) - self.periods, set())
        sums = {name: sum((value for value in table.column(name).to_pylist() if value is not None), Decimal(0)) if table.column(name).null_count < len(table) else None
                for name in self.money()}
        return len(table), decimals(sums)

    def polars(self):
        frame = polars.scan_parquet(f"{self.folder}/*/*.parquet", hive_partitioning=True)
        types = {name: str(kind) for name, kind in frame.collect_schema().items()}
        self.expect("the partition's column by polars", types.pop("period", None), "Date")
        self.expect("types by polars", types, self.expected_types(2))
        wide = polars.Decimal(38, self.digits)
        sums = [polars.when(polars.col(name).count() > 0).then(polars.col(name).cast(wide).sum()).alias(name) for name in self.money()]
        row = frame.select(polars.len().alias("__rows"), *sums).collect().row(0, named=True)
        return row.pop("__rows"), decimals(row)


def arrow_types(schema):
    """Arrow tells text of 64-bit offsets apart; the file holds the same."""
    texts = ("large_string", "string_view")
    return {field.name: "string" if str(field.type) in texts else str(field.type) for field in schema}


def decimals(sums):
    """Sums without regard to how many zeros stand behind the point."""
    return {name: None if value is None else Decimal(value).normalize() for name, value in sums.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--schemas", type=Path, required=True)
    parser.add_argument("--digits", type=int, required=True, help="minor digits of the reporting currency")
    parser.add_argument("--without", default="", help="tables that the pipeline does not publish")
    args = parser.parse_args()
    without = set(filter(None, args.without.split(",")))
    contracts = {file.stem: file for file in sorted(args.schemas.glob("*.yaml")) if file.stem not in without}
    failures = []
    published = {path.name for path in args.root.iterdir() if path.is_dir() and not path.name.startswith("_")}
    if published != set(contracts):
        failures.append(f"tables are {sorted(published)}, expected {sorted(contracts)}")
    strays = [path.name for path in args.root.iterdir() if not path.is_dir()]
    if strays:
        failures.append(f"files beside the tables: {strays}")

    # Which dimensions and metrics there are stands in the long tables.
    def distinct(column, table, where="true"):
        rows = duckdb.sql(f"SELECT DISTINCT {column} FROM read_parquet('{args.root}/{table}/*/*.parquet', hive_partitioning = true) WHERE {where}").fetchall()
        return {row[0] for row in rows}

    metrics = distinct("metric", "kpi_values")
    dimensions = distinct("dimension", "kpi_values")
    rows = 0
    for name in sorted(set(contracts) & published):
        first = next((args.root / name).rglob("*.parquet"))
        order = pyarrow.parquet.read_schema(first).names
        # Each in the order in which the table has them, which is checked to be one and the same in every file.
        columns = contract_of(contracts[name], [d for d in order if d in dimensions - {"cohort_first_paid", "cohort_signup"}], [m for m in order if m in metrics])
        table = Table(args.root, name, columns, args.digits)
        table.check()
        failures += table.failures
        rows += getattr(table, "rows", 0)
        if name == "kpi_summary" and (missing := metrics - set(order)):
            failures.append(f"kpi_summary lacks {sorted(missing)}")
    for failure in failures[:40]:
        print(failure)
    if failures:
        sys.exit(f"{len(failures)} failures")
    print(f"{len(contracts)} tables, {rows} rows: the same for DuckDB {duckdb.__version__}, pyarrow {pyarrow.__version__} and polars {polars.__version__}")


if __name__ == "__main__":
    main()
