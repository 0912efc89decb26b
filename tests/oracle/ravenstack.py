"""MRR and support tickets of the RavenStack data by plain Python: no DuckDB, no polars. The second, independent oracle.

    python ravenstack.py /work/shared/data/ravenstack          prints CSV, one row per month 2023-01 … 2024-12

Snapshot at the month's end E (the first day of the next month): a subscription counts iff start_date < E and (no end_date or end_date >= E).
Its MRR is mrr_amount (trials carry 0); an account is a customer iff its sum is > 0. Movements are those of docs/definitions.md § 3, at
account level: new (never had MRR at an earlier month's end), churn, reactivation, expansion, contraction.
Tickets (§ 4) count in the month of their own day: opened and escalated by submitted_at (a day, from its midnight on), responded by
submitted_at + first_response_time_minutes, closed and rated by closed_at; satisfied is a score of 4 or 5; durations in whole seconds.
Fixed points: 10159608 over 500 accounts at the end of 2024-12; 8460824 at the end of 2024-11.
"""

import csv
import sys
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

COLUMNS = ("period_start mrr customers new_mrr expansion_mrr contraction_mrr churn_mrr reactivation_mrr "
           "new_customers churned_customers reactivated_customers").split()

TICKET_COLUMNS = ("tickets_opened tickets_escalated tickets_responded first_response_seconds tickets_closed resolution_seconds "
                  "ticket_ratings ticket_ratings_satisfied").split()


def next_month(day):
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def subscriptions(folder):
    with open(Path(folder) / "ravenstack_subscriptions.csv", newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            end = date.fromisoformat(row["end_date"]) if row["end_date"] else None
            yield row["account_id"], date.fromisoformat(row["start_date"]), end, Decimal(row["mrr_amount"])


def snapshot(rows, end_of_period):
    """MRR by account of those who have any."""
    mrr = defaultdict(Decimal)
    for account, start, end, amount in rows:
        if start < end_of_period and (end is None or end >= end_of_period):
            mrr[account] += amount
    return {account: amount for account, amount in mrr.items() if amount > 0}


def months(rows):
    # The history before 2023-01 decides who is new; the first start stands in the data.
    month = min(start for _, start, _, _ in rows).replace(day=1)
    month = min(month, date(2023, 1, 1))
    opening, ever = {}, set()
    while month < date(2025, 1, 1):
        closing = snapshot(rows, next_month(month))
        new = [a for a in closing if a not in ever]
        back = [a for a in closing if a in ever and a not in opening]
        gone = [a for a in opening if a not in closing]
        change = {a: closing[a] - opening[a] for a in closing if a in opening}
        if month >= date(2023, 1, 1):
            yield (month, sum(closing.values()), len(closing), sum(closing[a] for a in new), sum(c for c in change.values() if c > 0),
                   -sum(c for c in change.values() if c < 0), sum(opening[a] for a in gone), sum(closing[a] for a in back), len(new), len(gone), len(back))
        ever |= closing.keys()
        opening, month = closing, next_month(month)


def month_of(instant):
    return date(instant.year, instant.month, 1)


def tickets(folder):
    """By month, the sums of TICKET_COLUMNS; months without any are not there."""
    sums = defaultdict(lambda: dict.fromkeys(TICKET_COLUMNS, 0))
    with open(Path(folder) / "ravenstack_support_tickets.csv", newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            opened = datetime.fromisoformat(row["submitted_at"])
            answer = timedelta(minutes=int(row["first_response_time_minutes"]))
            closed = datetime.fromisoformat(row["closed_at"])
            sums[month_of(opened)]["tickets_opened"] += 1
            sums[month_of(opened)]["tickets_escalated"] += row["escalation_flag"] == "True"
            sums[month_of(opened + answer)]["tickets_responded"] += 1
            sums[month_of(opened + answer)]["first_response_seconds"] += answer // timedelta(seconds=1)
            sums[month_of(closed)]["tickets_closed"] += 1
            sums[month_of(closed)]["resolution_seconds"] += (closed - opened) // timedelta(seconds=1)
            if row["satisfaction_score"]:
                sums[month_of(closed)]["ticket_ratings"] += 1
                sums[month_of(closed)]["ticket_ratings_satisfied"] += float(row["satisfaction_score"]) >= 4
    return sums


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    rows = list(subscriptions(sys.argv[1]))
    by_month = tickets(sys.argv[1])
    print(",".join(COLUMNS + TICKET_COLUMNS))
    before = 0
    for row in months(rows):
        month, mrr, customers, new, expansion, contraction, churn, reactivation = row[:8]
        assert month == date(2023, 1, 1) or before + new + reactivation + expansion - contraction - churn == mrr, f"{month} does not foot"
        before = mrr
        print(",".join(str(value) for value in [*row, *by_month[month].values()]))


if __name__ == "__main__":
    main()
