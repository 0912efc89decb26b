"""Compares published tables of the RavenStack pipeline with ravenstack.py, month by month.

    python compare_ravenstack.py --data /work/shared/data/ravenstack --actual ROOT

MRR, customers and movements of the total, from kpi_values and once more from mrr_movements and account_period, and the sums of account_period about tickets,
2023-01 … 2024-12, exactly. Exit code 1 on any difference.
"""

import argparse
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb

import ravenstack

FIXED_POINTS = {date(2024, 12, 1): (10_159_608, 500), date(2024, 11, 1): (8_460_824, None)}
METRICS = ("mrr closing_customers new_mrr expansion_mrr contraction_mrr churn_mrr reactivation_mrr "
           "new_customers churned_customers reactivated_customers").split()
# Of mrr_movements: what a column of ravenstack.py is the sum of, and its sign.
MOVEMENTS = {"mrr": ("closing", 1), "new_mrr": ("new", 1), "expansion_mrr": ("expansion", 1), "contraction_mrr": ("contraction", -1),
             "churn_mrr": ("churn", -1), "reactivation_mrr": ("reactivation", 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--actual", type=Path, required=True)
    args = parser.parse_args()

    def read(table, sql, where="true"):
        source = f"read_parquet('{args.actual}/{table}/*/part-0.parquet', hive_partitioning = false)"
        return duckdb.sql(f"SELECT period_start, {sql} FROM {source} WHERE {where} GROUP BY ALL").fetchall()

    metrics = {(day, metric): value for day, metric, value in read("kpi_values", "metric, any_value(value)", "dimension = 'total'")}
    movements = {(day, movement): value for day, movement, value in read("mrr_movements", "movement, sum(mrr)", "dimension = 'total'")}
    accounts = {row[0]: row[1:] for row in read("account_period", "sum(closing_mrr), sum(closing_customers)::BIGINT")}
    ticket_sums = ", ".join(f"sum({column})::BIGINT" for column in ravenstack.TICKET_COLUMNS)
    tickets = {row[0]: row[1:] for row in read("account_period", ticket_sums)}
    expected_tickets = ravenstack.tickets(args.data)
    expected = {row[0]: dict(zip(ravenstack.COLUMNS[1:], row[1:])) for row in ravenstack.months(list(ravenstack.subscriptions(args.data)))}
    failures, checked = [], 0

    def expect(day, what, found, wanted):
        nonlocal checked
        checked += 1
        if found is None or Decimal(found) != Decimal(wanted):
            failures.append(f"{day:%Y-%m} {what}: expected {wanted}, published {found}")

    if sorted(accounts) != sorted(expected):
        failures.append(f"months are {sorted(map(str, accounts))}")
    for day, values in expected.items():
        for (column, wanted), metric in zip(values.items(), METRICS, strict=True):
            expect(day, metric, metrics.get((day, metric)), wanted)
        for column, (movement, sign) in MOVEMENTS.items():
            expect(day, f"movement {movement}", sign * movements.get((day, movement), 0), values[column])
        for what, found, column in zip(("MRR of accounts", "customers of accounts"), accounts.get(day, (None, None)), ("mrr", "customers")):
            expect(day, what, found, values[column])
        for column, found in zip(ravenstack.TICKET_COLUMNS, tickets.get(day, [None] * len(ravenstack.TICKET_COLUMNS)), strict=True):
            expect(day, column, found, expected_tickets[day][column])
    opened = sum(values["tickets_opened"] for values in expected_tickets.values())
    if opened != 2_000:
        failures.append(f"{opened} tickets were opened, not 2,000")
    for day, (mrr, customers) in FIXED_POINTS.items():
        expect(day, "fixed point of MRR", metrics.get((day, "mrr")), mrr)
        if customers is not None:
            expect(day, "fixed point of customers", metrics.get((day, "closing_customers")), customers)
    for failure in failures[:40]:
        print(failure)
    if failures:
        sys.exit(f"{len(failures)} differences")
    print(f"RavenStack: {len(expected)} months, {checked} values equal")


if __name__ == "__main__":
    main()
