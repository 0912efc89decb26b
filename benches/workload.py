"""The workload: a company's CRM, billing and product usage as Parquet files, the same bytes for the same size and seed.

    python workload.py M --dir target/bench          writes target/bench/M/data

accounts, plans, subscriptions and invoice_lines are one file each; usage_events is one file per day of Asia/Tokyo. `cskpi generate` is not used:
it writes usage by month, and ten more tables that nothing here reads.
"""

import argparse
import datetime
import json
import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BEGIN = datetime.date(2023, 4, 1)  # calendar.begin of pipeline.yaml
MONTHS_BEFORE = 18  # of billing history before it
ZONE_SECONDS = 9 * 3600  # Asia/Tokyo has no summer time

#        events, accounts, months
SIZES = {
    "XS": (200_000, 500, 6),
    "S": (5_000_000, 10_000, 36),
    "M": (50_000_000, 100_000, 36),
    "2M": (100_000_000, 100_000, 36),
    "L": (200_000_000, 100_000, 36),
    # As many accounts as the memory limit is made for.
    "A": (5_000_000, 1_000_000, 36),
}

REGIONS = ["関東", "関西", "中部", "九州", "東北", "北海道", "中国", "四国"]
REGION_SHARES = [0.42, 0.18, 0.13, 0.09, 0.06, 0.05, 0.04, 0.03]
CHANNELS = ["web", "partner", "referral", "event"]
FEATURES = [f"feature_{i:02}" for i in range(24)]
#         plan, family, tier, yen per seat and month
PLANS = [("core-basic", "core", 1, 800), ("core-pro", "core", 2, 1500), ("core-enterprise", "core", 3, 2800),
         ("analytics-basic", "analytics", 1, 300), ("analytics-pro", "analytics", 2, 700)]
PRICES = np.array([plan[3] for plan in PLANS])
END_REASONS = ["budget", "competitor", "payment_failed", None]
OPEN = 1 << 30  # a day that never comes


def day_number(date):
    return (date - datetime.date(1970, 1, 1)).days


def first_of_month(offset):
    """First day, since 1970, of the month `offset` months after BEGIN."""
    month = 12 * BEGIN.year + BEGIN.month - 1 + offset
    return day_number(datetime.date(month // 12, month % 12 + 1, 1))


def write(path, columns):
    # Without Arrow's own schema no reader takes a dictionary for a categorical.
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)


def chosen(words, codes):
    """Texts by their codes."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words, pa.string())).cast(pa.string())


def dates(days):
    return pa.array(days.astype(np.int32), mask=days >= OPEN, type=pa.date32())


def instants(local_seconds):
    return pa.array((local_seconds - ZONE_SECONDS) * 1_000_000, type=pa.timestamp("us", tz="UTC"))


# ── accounts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def accounts(count, months, rng):
    """Six in ten have signed up before BEGIN."""
    begin, end = first_of_month(0), first_of_month(months)
    is_early = rng.random(count) < 0.6
    signup = np.where(is_early, rng.integers(first_of_month(-MONTHS_BEFORE), begin, count), rng.integers(begin, end, count))
    signup.sort()
    seats = np.clip(np.exp(rng.normal(1.8, 1.0, count)), 1, 500).astype(np.int64)
    return {
        "id": [f"A{i:07}" for i in range(count)], "signup": signup, "seats": seats, "has_seats": rng.random(count) < 0.9,
        "region": rng.choice(len(REGIONS), count, p=REGION_SHARES), "has_region": rng.random(count) < 0.98,
        "channel": rng.integers(0, len(CHANNELS), count), "owner": rng.integers(0, max(1, count // 150), count),
        "price": rng.choice([0.8, 0.9, 1.0, 1.0, 1.1], count), "is_yearly": rng.random(count) < 0.35,
        # how busy, and how many of the seats are somebody
        "weight": seats**0.8 * np.exp(rng.normal(0, 0.8, count)), "users": np.maximum(1, (seats * rng.uniform(0.4, 1.0, count)).astype(np.int64)),
    }


def write_accounts(book, folder):
    write(folder / "accounts.parquet", {
        "account_id": book["id"], "name": [f"株式会社{i[1:]}" for i in book["id"]], "signup_date": dates(book["signup"]),
        "region": pa.array(REGIONS, pa.string()).take(pa.array(book["region"], mask=~book["has_region"])), "channel": chosen(CHANNELS, book["channel"]),
        "owner_id": [f"csm-{i:03}" for i in book["owner"]], "seats": pa.array(book["seats"], mask=~book["has_seats"]),
    })
    write(folder / "plans.parquet", {"plan_id": [p[0] for p in PLANS], "family": [p[1] for p in PLANS], "tier": pa.array([p[2] for p in PLANS], pa.int64())})


# ── subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Line:
    """One product's subscriptions, at most one open version per account."""

    def __init__(self, count, first_id):
        self.is_open = np.zeros(count, bool)
        self.start, self.trial_end = np.zeros(count, np.int64), np.full(count, OPEN)
        self.plan, self.quantity, self.amount = np.zeros(count, np.int64), np.ones(count, np.int64), np.zeros(count, np.int64)
        self.percent = np.zeros(count, np.int64)  # discount; 0 is none
        self.number, self.next_number = np.zeros(count, np.int64), first_id
        self.versions = []

    def open(self, who, start):
        self.is_open[who], self.start[who], self.trial_end[who] = True, start, OPEN
        self.number[who] = self.next_number + np.arange(len(who))
        self.next_number += len(who)

    def close(self, who, end, reason=-1):
        """Ends the version of these accounts; `reason` is a place in END_REASONS, or −1."""
        columns = (self.start, self.trial_end, self.plan, self.quantity, self.amount, self.percent, self.number)
        reasons = np.broadcast_to(reason, len(who))
        self.versions.append(np.column_stack([who, np.broadcast_to(end, len(who)), reasons, *(column[who] for column in columns)]))

    def change(self, who, day):
        """Ends the version of these accounts and begins the next one."""
        self.close(who, day)
        self.start[who], self.trial_end[who] = day, OPEN


def subscriptions(book, months, rng):
    """Versions as rows of (account, end, reason, start, trial_end, plan, quantity, amount, percent, number), month by month from the first sign-up on."""
    count = len(book["id"])
    core, extra = Line(count, 0), Line(count, 10_000_000)
    is_yearly = book["is_yearly"]
    has_been = np.zeros(count, bool)

    def amount(who, plan):
        return np.round(PRICES[plan] * book["price"][who] * np.where(is_yearly[who], 10, 1)).astype(np.int64)

    for month in range(-MONTHS_BEFORE, months):
        first, end = first_of_month(month), first_of_month(month + 1)
        day = rng.integers(first, end, count)
        draw, what = rng.random(count), rng.random(count)
        # Only what began before this month changes in it.
        is_old = core.is_open & (core.start < first)

        leaves = np.flatnonzero(is_old & (draw < 0.014))
        reason = rng.choice(len(END_REASONS), len(leaves), p=[0.4, 0.25, 0.2, 0.15])
        core.close(leaves, day[leaves], reason)
        core.is_open[leaves] = False
        both = extra.is_open[leaves]
        # What began this very month ends where it began at the earliest.
        extra.close(leaves[both], np.maximum(day[leaves[both]], extra.start[leaves[both]]), reason[both])
        extra.is_open[leaves] = False

        changes = np.flatnonzero(is_old & (draw >= 0.014) & (draw < 0.060))
        core.change(changes, day[changes])
        kind = what[changes]
        up, down = changes[kind < 0.30], changes[(kind >= 0.30) & (kind < 0.42)]
        core.plan[up], core.plan[down] = np.minimum(core.plan[up] + 1, 2), np.maximum(core.plan[down] - 1, 0)
        grow, shrink = changes[(kind >= 0.42) & (kind < 0.75)], changes[(kind >= 0.75) & (kind < 0.90)]
        core.quantity[grow] += 1 + core.quantity[grow] // 5
        core.quantity[shrink] = np.maximum(1, core.quantity[shrink] - 1 - core.quantity[shrink] // 5)
        core.percent[changes[kind >= 0.95]] = 0
        core.amount[changes] = amount(changes, core.plan[changes])
        dearer = changes[(kind >= 0.90) & (kind < 0.95)]
        core.amount[dearer] = np.round(core.amount[dearer] * 1.03).astype(np.int64)

        buys = np.flatnonzero(is_old & core.is_open & ~extra.is_open & (what > 0.988))
        extra.open(buys, day[buys])
        extra.plan[buys], extra.quantity[buys] = 3 + (book["seats"][buys] > 15), core.quantity[buys]
        extra.amount[buys] = amount(buys, extra.plan[buys])
        drops = np.flatnonzero(extra.is_open & (extra.start < first) & (draw > 0.992))
        extra.close(drops, day[drops])
        extra.is_open[drops] = False

        returns = np.flatnonzero(has_been & ~core.is_open & (what < 0.03) & (draw > 0.1))
        returns = returns[~np.isin(returns, leaves)]
        comes = np.flatnonzero((book["signup"] >= first) & (book["signup"] < end))
        core.open(returns, day[returns])
        core.open(comes, book["signup"][comes])
        begins = np.concatenate([returns, comes])
        core.plan[begins] = np.minimum(rng.geometric(0.55, len(begins)) - 1, 2)
        core.quantity[begins] = np.maximum(1, (book["seats"][begins] * rng.uniform(0.5, 1.0, len(begins))).astype(np.int64))
        core.percent[begins] = rng.choice([0, 10, 20], len(begins), p=[0.8, 0.12, 0.08])
        core.amount[begins] = amount(begins, core.plan[begins])
        tries = comes[rng.random(len(comes)) < 0.3]
        core.trial_end[tries] = core.start[tries] + 14
        has_been[comes] = True

    for line in (core, extra):
        live = np.flatnonzero(line.is_open)
        line.close(live, np.full(len(live), OPEN))
    versions = np.concatenate(core.versions + extra.versions)
    return versions[np.lexsort((versions[:, 3], versions[:, 9]))]


def write_subscriptions(book, versions, folder):
    who, end, reason, start, trial_end, plan, quantity, amount, percent, number = versions.T
    has_discount = percent > 0
    write(folder / "subscriptions.parquet", {
        "subscription_id": [f"S{i:08}" for i in number], "account_id": pa.array(book["id"]).take(pa.array(who)), "plan_id": chosen([p[0] for p in PLANS], plan),
        "started_at": dates(start), "ended_at": dates(end), "trial_end": dates(trial_end), "quantity": pa.array(quantity), "amount": pa.array(amount),
        "interval": chosen(["month", "year"], book["is_yearly"][who]), "discount": pa.array(percent, mask=~has_discount),
        "discount_kind": pa.array(["recurring_percent"], pa.string()).take(pa.array(np.zeros(len(who), np.int64), mask=~has_discount)),
        "status": chosen(["active"], np.zeros(len(who))), "end_reason": pa.array(END_REASONS, pa.string()).take(pa.array(np.maximum(reason, 0), mask=reason < 0)),
    })


# ── invoices ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_invoices(book, versions, months, rng, folder):
    """On the first of each month what is live then: monthly plans every month, yearly ones at their anniversary; metered usage and refunds beside."""
    who, end, _, start, trial_end, _, quantity, amount, percent, _ = versions.T
    net = quantity * amount * (100 - percent) // 100
    is_yearly, paid_from = book["is_yearly"][who], np.where(trial_end < OPEN, trial_end, start)
    starts_in = np.array([datetime.date.fromordinal(int(day) + 719_163).month for day in start])
    parts = []  # account, day, amount, kind, is_own_invoice
    for month in range(-MONTHS_BEFORE, months):
        first = first_of_month(month)
        is_due = (paid_from <= first) & (end > first) & (~is_yearly | ((BEGIN.month - 1 + month) % 12 + 1 == starts_in))
        due = np.flatnonzero(is_due)
        metered = np.unique(who[due[rng.random(len(due)) < 0.08]])
        refunded = due[rng.random(len(due)) < 0.006]
        parts.append(np.column_stack([who[due], np.full(len(due), first), net[due], np.zeros(len(due), int), np.zeros(len(due), int)]))
        parts.append(np.column_stack([metered, np.full(len(metered), first), rng.integers(100, 20_000, len(metered)), np.ones(len(metered), int), np.zeros(len(metered), int)]))
        parts.append(np.column_stack([who[refunded], first + rng.integers(1, 25, len(refunded)), -(net[refunded] // 3), np.full(len(refunded), 2), np.ones(len(refunded), int)]))
    lines = np.concatenate(parts)
    lines = lines[np.lexsort((lines[:, 3], lines[:, 4], lines[:, 0], lines[:, 1]))]
    account, day, amount, kind, is_own = lines.T
    key = np.column_stack([account, day, is_own])
    number = np.cumsum(np.append(True, (key[1:] != key[:-1]).any(axis=1))) - 1
    issued = day * 86_400 + 9 * 3600 + (number * 7919) % 7200
    write(folder / "invoice_lines.parquet", {
        "invoice_id": [f"I{i:08}" for i in number], "account_id": pa.array(book["id"]).take(pa.array(account)), "issued_at": instants(issued),
        "amount": pa.array(amount), "kind": chosen(["recurring", "usage", "refund"], kind),
    })


# ── usage ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lives(versions):
    """When each account is a user of the product: its stretches of core subscriptions, (account, from, to)."""
    core = versions[versions[:, 5] < 3]
    core = core[np.lexsort((core[:, 3], core[:, 0]))]
    who, end, start = core[:, 0], core[:, 1], core[:, 3]
    begins = np.append(True, (who[1:] != who[:-1]) | (start[1:] > end[:-1]))
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(core) - 1)
    return who[begins], start[begins], end[last]


def events_per_day(total, days):
    """Week-ends are quiet, and use grows; the sum is `total` exactly."""
    weekday = (np.array(days) + 3) % 7  # Monday is 0
    weight = np.where(weekday < 5, 1.0, 0.3) * np.linspace(1.0, 2.2, len(days))
    edges = np.round(np.cumsum(weight) / weight.sum() * total).astype(np.int64)
    return np.diff(edges, prepend=0)


def write_day(task):
    """One day's events in order of time. Every day has dice of its own, so days may be made in any order."""
    day, count, seed = task
    who, start, end = STATE["lives"]
    book = STATE["book"]
    rng = np.random.default_rng([seed, day])
    live = who[(start <= day) & (end > day)]
    heap = np.cumsum(book["weight"][live])
    # Sessions of four events on average; enough of them, then cut to the count.
    length = rng.geometric(0.25, max(1, int(count / 4 * 1.1) + 50))
    while length.sum() < count:
        length = np.append(length, rng.geometric(0.25, len(length)))
    length = length[: np.searchsorted(np.cumsum(length), count) + 1]
    account = live[np.searchsorted(heap, rng.random(len(length)) * heap[-1])]
    # Some people of an account are busier than others.
    user = STATE["first_user"][account] + (book["users"][account] * rng.random(len(length)) ** 2).astype(np.int64)
    begins = np.clip(rng.normal(13.5, 3.5, len(length)), 0, 23.5) * 3_600_000
    session = np.repeat(np.arange(len(length)), length)[:count]
    gap = rng.exponential(90_000, count)
    gap[rng.random(count) < 0.01] += 2_400_000
    elapsed = np.cumsum(gap)
    firsts = np.concatenate([[0], np.cumsum(length)[:-1]])
    at = np.minimum(begins[session] + elapsed - elapsed[firsts][session], 86_399_999).astype(np.int64)
    order = np.argsort(at, kind="stable")
    session, at = session[order], at[order]
    feature = np.minimum(rng.zipf(1.4, count) - 1, len(FEATURES)) if count else np.zeros(0, np.int64)

    def compact(codes, texts):
        values, places = np.unique(codes, return_inverse=True)
        return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), texts.take(pa.array(values)))

    name = datetime.date.fromordinal(day + 719_163).isoformat()
    write(STATE["folder"] / f"{name}.parquet", {
        "account_id": compact(account[session], STATE["account_ids"]), "user_id": compact(user[session], STATE["user_ids"]),
        "occurred_at": pa.array((day * 86_400_000 + at - ZONE_SECONDS * 1000) * 1000, type=pa.timestamp("us", tz="UTC")),
        "feature": pa.DictionaryArray.from_arrays(pa.array(feature.astype(np.int32), mask=feature == len(FEATURES)), pa.array(FEATURES)),
    })


STATE = {}  # what the processes that write days share, by fork


def write_usage(book, versions, events, months, seed, folder):
    folder.mkdir()
    days = list(range(first_of_month(0), first_of_month(months)))
    first_user = np.cumsum(book["users"]) - book["users"]
    STATE.update(
        book=book, lives=lives(versions), folder=folder, first_user=first_user, account_ids=pa.array(book["id"]),
        user_ids=pa.array([f"u{i:08}" for i in range(int(book["users"].sum()))]))
    tasks = [(day, int(count), seed) for day, count in zip(days, events_per_day(events, days))]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for _ in pool.imap_unordered(write_day, tasks, chunksize=4):
            pass


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def workload(size, folder, seed=5):
    """Writes the size's files into `folder`, unless they are there already. What is half done is done anew."""
    events, count, months = SIZES[size]
    wanted = {"size": size, "events": events, "accounts": count, "months": months, "seed": seed, "format": 1}
    stamp = folder / "workload.json"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.time()
    rng = np.random.default_rng(seed)
    book = accounts(count, months, rng)
    versions = subscriptions(book, months, rng)
    write_accounts(book, folder)
    write_subscriptions(book, versions, folder)
    write_invoices(book, versions, months, rng, folder)
    write_usage(book, versions, events, months, seed, folder / "usage_events")
    stamp.write_text(json.dumps(wanted))
    size_on_disk = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    print(f"{size}: {events:,} events of {count:,} accounts in {months} months, {size_on_disk / 1e6:,.0f} MB, made in {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--dir", type=Path, default=Path("target/bench"))
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    workload(given.size, given.dir / given.size / "data", given.seed)
