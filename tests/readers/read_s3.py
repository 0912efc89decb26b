"""Reads published tables from S3 with pyarrow, and checks that they are what lies in a local folder.

    python read_s3.py ENDPOINT BUCKET/ROOT FOLDER

Prints what was compared. Exit code 1 and one line per table that differs.
"""

import sys
from pathlib import Path

import pyarrow.dataset
import pyarrow.fs

ABOUT_RUNS = {"runs", "checks"}


def table(folder, filesystem=None):
    data = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive", filesystem=filesystem)
    return data.to_table().replace_schema_metadata()


def main(endpoint, root, folder):
    s3 = pyarrow.fs.S3FileSystem(
        access_key="any", secret_key="any", endpoint_override=endpoint.removeprefix("http://"), scheme="http", region="us-east-1"
    )
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("_"))
    names = [name for name in names if name not in ABOUT_RUNS]
    rows = 0
    differing = []
    for name in names:
        found, expected = table(f"{root}/{name}", s3), table(str(Path(folder, name)))
        rows += len(found)
        if not found.equals(expected):
            differing.append(f"{name}: {len(found)} rows on S3, {len(expected)} on the local disk")
    if differing or not rows:
        sys.exit("\n".join(differing) or "no rows")
    print(f"{len(names)} tables, {rows} rows: the same on S3 by pyarrow {pyarrow.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
