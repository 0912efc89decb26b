"""The tables of benches/pipeline.yaml in Python polars, written for speed: see shape.py for their form and docs/definitions.md for their meaning.

- Usage is grouped file by file, which takes less than half of the CPU of months and keeps memory flat; only days longer than a pause are sorted to count their
  sessions.
- Accounts are numbered in the order of their ids, and (account, period) is packed into one integer: joins and groups have one integer key.
- All periods are computed at once, over a dense spine in order: the period before is a shift, "to date" a running sum.
- What changes in an account's products is looked for only where a version begins or ends.
- The opening of a member is its closing one period earlier; a row per account and product stands for one account, so nothing is counted distinct.
"""

import os
import sys
import time

import shape

given = shape.arguments(__doc__.splitlines()[0])
os.environ["POLARS_MAX_THREADS"] = str(given.threads)  # before polars is loaded

import polars as pl  # noqa: E402
from polars import col, lit, when  # noqa: E402

FIRST, LAST = given.periods[0].index, given.periods[-1].index
PERIODS = 1 << 16
PRODUCTS = 4
MONEY = pl.Decimal(18, 0)
CAUSES = {"cross_sell": "cross_sell", "product_drop": "product_drop", "plan": "plan", "quantity": "quantity", "discount": "discount_change", "term": "term", "price": "price"}


def day(date):
    return date.toordinal() - 719_163


def index_of(date):
    return (12 * date.dt.year().cast(pl.Int64) + date.dt.month() - 1)


def first_day(index):
    return pl.date(index // 12, index % 12 + 1, 1)


def key(no="no", p="p"):
    return (col(no) * PERIODS + col(p)).alias("key")


def rounded(num, den):
    """num / den, half away from zero; den > 0."""
    return num.sign() * ((2 * num.abs() + den) // (2 * den))


def total(name, of=None):
    """Sums in 64 bits, whatever the column is."""
    return (of if of is not None else col(name)).cast(pl.Int64).sum().alias(name)


# ── usage ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


USER_DAY = ["account_id", "user_id", "day"]


def day_file(file):
    """A file's rows per user and day, with their instants, and the features that its accounts used."""
    instants = (col("occurred_at").to_physical() + shape.ZONE_US).alias("us")
    events = pl.read_parquet(file, columns=["account_id", "user_id", "occurred_at", "feature"]).lazy()
    user_days = events.select("account_id", "user_id", instants).with_columns(day=(col("us") // shape.DAY_US).cast(pl.Int32)).group_by(USER_DAY).agg(
        pl.len().alias("events"), col("us").min().alias("first"), col("us").max().alias("last"), "us")
    features = events.select("account_id", "feature").filter(col("feature").is_not_null()).unique()
    return pl.collect_all([user_days, features])


def usage_month(period):
    """One row per account: its usage of the period."""
    files = shape.event_files(given.data, period)
    days, features = zip(*(day_file(file) for file in files))
    days = pl.concat(days)
    length = col("last") - col("first")
    short = days.lazy().filter(length <= shape.SESSION_GAP_US).select(*USER_DAY, "events", lit(1, pl.UInt32).alias("sessions"), (length // 1_000_000).alias("seconds"))
    long = days.lazy().filter(length > shape.SESSION_GAP_US).with_row_index("i")
    begins = ((col("i") != col("i").shift(1)) | (col("us") - col("us").shift(1) > shape.SESSION_GAP_US)).fill_null(True)
    sessions = (
        long.select("i", col("us").list.sort()).explode("us").with_columns(session=begins.cum_sum())
        .group_by("session").agg(col("i").first(), ((col("us").last() - col("us").first()) // 1_000_000).alias("seconds"))
        .group_by("i").agg(pl.len().alias("sessions"), col("seconds").sum()))
    long = long.join(sessions, on="i")

    # What lies before the period is of use to the last 30 days only. Plain sums of columns are what group-by is fast at.
    is_own = col("day") >= day(period.start)
    counts = ["events", "sessions", "seconds"]
    of_period = [when(is_own).then(col(name).cast(pl.Int64)).otherwise(0).alias(name) for name in counts]
    bit = when(is_own).then(lit(2, pl.Int64) ** (col("day") - day(period.start)).clip(0).cast(pl.Int64)).otherwise(0).cast(pl.Int64).alias("which")
    users = (
        pl.concat([short, long.select(*USER_DAY, *counts)]).select("account_id", "user_id", "day", *of_period, bit, is_own.cast(pl.Int64).alias("user_days"))
        # A day comes once per user, so that the sum of its bits is all of them.
        .group_by("account_id", "user_id").agg(col(*counts, "which", "user_days").sum(), last_use=col("day").max())
        .with_columns(wau=(col("last_use") >= day(period.end) - 7).cast(pl.Int64), mau=(col("last_use") >= day(period.end) - 30).cast(pl.Int64)))
    of_account = users.group_by("account_id").agg(
        col(*counts, "user_days", "wau", "mau").sum(), active_days=col("which").bitwise_or().bitwise_count_ones().cast(pl.Int64), last_use=col("last_use").max())
    # The files before the period's own are there for the last 30 days only.
    own = features[sum(file.rsplit("/", 1)[1] < period.start.isoformat() for file in files):]
    used = pl.concat(own).lazy().unique().group_by("account_id").agg(pl.len().cast(pl.Int64).alias("features"))
    return of_account.join(used, on="account_id", how="left").with_columns(p=lit(period.index, pl.Int64)).collect()


# ── subscriptions and invoices ──────────────────────────────────────────────────────────────────────────────────────────


def accounts():
    return (
        pl.read_parquet(given.data / "accounts.parquet").sort("account_id").with_row_index("no")
        .select(col("no").cast(pl.Int64), "account_id", account_name="name", owner_id="owner_id", region=col("region").fill_null("(unknown)"), own_seats="seats",
                signup_idx=index_of(col("signup_date"))))


def versions(account, plans):
    line = col("quantity") * col("amount")
    months = when(col("interval") == "year").then(12).otherwise(1)
    end = index_of(col("ended_at")).fill_null(LAST + 1).clip(upper_bound=LAST + 1)
    return (
        pl.read_parquet(given.data / "subscriptions.parquet").lazy()
        .join(account.lazy().select("no", "account_id"), on="account_id").join(plans.lazy(), on="plan_id")
        .with_columns(
            contract=rounded(line, months), net=rounded(line * (100 - col("discount").fill_null(0)), 100 * months), term=when(months == 12).then(365).otherwise(30),
            paid_from=pl.max_horizontal("started_at", "trial_end"), trial_to=index_of(pl.min_horizontal("trial_end", "ended_at")).clip(upper_bound=LAST + 1))
        .with_columns(from_idx=index_of(col("paid_from")), to_idx=end, started_idx=index_of(col("started_at")))
        .select("no", "subscription_id", "family", "tier", "rank_of_plan", "quantity", "contract", "net", "term", "started_at", "ended_at", "end_reason", "trial_end", "paid_from",
                "trial_to", "from_idx", "to_idx", "started_idx").collect())


def each_period(frame, start, end):
    """A row per period from `start` up to, without, `end`."""
    return frame.filter(start < end).with_columns(p=pl.int_ranges(start, end)).explode("p")


def billed(account):
    day_of = ((col("issued_at").to_physical() + shape.ZONE_US) // shape.DAY_US).cast(pl.Int32)
    is_positive = col("amount") > 0
    return (
        pl.scan_parquet(given.data / "invoice_lines.parquet")
        .select("account_id", "invoice_id", "amount", day_of.alias("day"), metered=when(col("kind") == "usage").then(col("amount")).otherwise(0))
        .group_by("account_id", "invoice_id", "day").agg(col("amount").sum(), col("metered").sum())
        .with_columns(p=index_of(col("day").cast(pl.Date))).filter(col("p") <= LAST)
        .group_by("account_id", "p").agg(
            revenue=col("amount").sum(), usage_mrr=col("metered").sum(), invoices=is_positive.sum().cast(pl.Int64), last_payment=col("day").filter(is_positive).max())
        .join(account.lazy().select("no", "account_id"), on="account_id").drop("account_id").with_columns(key()).collect())


# ── account × period ────────────────────────────────────────────────────────────────────────────────────────────────────


def facts(account, version, plans, lines, used):
    live = each_period(version.lazy().select("no", "family", "from_idx", "to_idx", "tier", "net", "contract", "quantity", "term", "rank_of_plan"), col("from_idx"), col("to_idx"))
    live = live.with_columns(key(), strength=col("net") * 1000 + col("rank_of_plan"))
    holding = live.group_by((col("key") * PRODUCTS + col("family")).alias("held")).agg(
        n=col("net").sum(), c=col("contract").sum(), q=col("quantity").sum(), tier=col("tier").max(), term=col("term").max())
    # The strongest version's plan is packed behind its MRR.
    paid = live.group_by("key").agg(closing=col("net").sum(), contract=col("contract").sum(), quantity=col("quantity").sum(), strength=col("strength").max())
    holding, paid = pl.collect_all([holding, paid])
    tiers = dict(plans.select("rank_of_plan", "tier").iter_rows())
    paid = paid.with_columns(tier=(col("strength") % 1000).replace_strict(tiers, return_dtype=pl.Int64)).drop("strength")
    trial = (
        each_period(version.lazy().filter(col("trial_end").is_not_null()).select("no", "net", "started_idx", "trial_to"), col("started_idx"), col("trial_to"))
        .group_by(key()).agg(trial_mrr=col("net").sum()))
    first_paid = version.lazy().filter(col("from_idx") < col("to_idx")).group_by("no").agg(first_idx=col("from_idx").min(), first_from=col("paid_from").min())
    first_paid = first_paid.with_columns(key("no", "first_idx")).join(paid.lazy().select("key", cohort_mrr="closing"), on="key").drop("key").collect()

    signs = [account.select("no", p="signup_idx"), version.group_by("no").agg(p=col("started_idx").min()), lines.group_by("no").agg(col("p").min()),
             used.filter(col("events") > 0).group_by("no").agg(col("p").min())]
    spine = each_period(pl.concat(signs).lazy().group_by("no").agg(start=col("p").min()).sort("no"), col("start"), lit(LAST + 1)).select("no", "p", key())

    was = lambda name, k=1: when(col("no") == col("no").shift(k)).then(col(name).shift(k))
    zero = "closing contract trial_mrr revenue usage_mrr invoices events sessions seconds active_days user_days wau mau features".split()
    joined = spine
    for frame in (paid.lazy(), trial, lines.lazy().drop("no", "p"), used.lazy().drop("no", "p")):
        joined = joined.join(frame, on="key", how="left", maintain_order="left")
    running = (
        joined.with_columns(col(zero).fill_null(0))
        .with_columns(
            opening=was("closing").fill_null(0), year_ago=was("closing", 12).fill_null(0), tier_was=pl.coalesce(was("tier"), was("tier", 2)), tier=pl.coalesce("tier", was("tier")),
            revenue_to_date=col("revenue").cum_sum().over("no"), invoices_to_date=col("invoices").cum_sum().over("no"),
            last_payment=col("last_payment").forward_fill().over("no"), last_use=col("last_use").forward_fill().over("no"))
        .with_columns(revenue_12m=col("revenue_to_date") - was("revenue_to_date", 12).fill_null(0), invoices_12m=col("invoices_to_date") - was("invoices_to_date", 12).fill_null(0))
        .filter(col("p") > FIRST - shape.TRAILING)
        .join(first_paid.lazy(), on="no", how="left", maintain_order="left"))
    is_paid = col("first_idx") <= col("p")
    opening, closing = col("opening"), col("closing")
    movement = (
        when((closing > 0) & (col("first_idx") >= col("p"))).then(lit("new")).when((closing == 0) & (opening > 0)).then(lit("churn"))
        .when((closing > 0) & (opening == 0)).then(lit("reactivation")).when(closing > opening).then(lit("expansion")).when(closing < opening).then(lit("contraction")))
    named = running.with_columns(first_idx=when(is_paid).then("first_idx"), cohort_mrr=when(is_paid).then("cohort_mrr").otherwise(0), movement=movement.cast(pl.Categorical))
    members = account.lazy().select("no", "region", "signup_idx")
    return named.join(members, on="no", how="left", maintain_order="left").collect(), holding


def derived(frame):
    """The facts that metrics add up, beside those that are there."""
    opening, closing = col("opening"), col("closing")
    moves = lambda name: (col("movement") == name).fill_null(False)
    of = lambda name, amount: when(moves(name)).then(amount).otherwise(0)
    flag = lambda condition: condition.cast(pl.Int64)
    return frame.with_columns(
        opening_customers=flag(opening > 0), closing_customers=flag(closing > 0), new_customers=flag(moves("new")), reactivated_customers=flag(moves("reactivation")),
        churned_customers=flag(moves("churn")), opening_mrr=opening, closing_mrr=closing, new_mrr=of("new", closing), reactivation_mrr=of("reactivation", closing),
        expansion_mrr=of("expansion", closing - opening), contraction_mrr=of("contraction", opening - closing), churn_mrr=of("churn", opening),
        retained_mrr=pl.min_horizontal(opening, closing), mrr_12m_ago=col("year_ago"), current_mrr_of_12m_ago=when(col("year_ago") > 0).then(closing).otherwise(0),
        paid_12m_ago=flag(col("year_ago") > 0), active_user_days=col("user_days"), active_accounts=flag(col("events") > 0), session_seconds=col("seconds"),
        features_used=col("features"))


DIMENSIONS = {
    "total": lit("total"), "region": col("region"), "tier": col("tier").cast(pl.String).fill_null("(unknown)"),
    "cohort_first_paid": first_day(col("first_idx")).cast(pl.String), "cohort_signup": first_day(when(col("signup_idx") <= col("p")).then("signup_idx")).cast(pl.String),
}
# What a dimension groups by: its member in as few bytes as there are.
GROUPS = {"total": [], "region": ["region"], "tier": ["tier"], "cohort_first_paid": ["first_idx"], "cohort_signup": ["since"]}


def by_dimension(frame, keys, sums):
    """The sums for every dimension's members."""
    frame = frame.with_columns(since=when(col("signup_idx") <= col("p")).then("signup_idx"))
    all_of_them = []
    for dimension, groups in GROUPS.items():
        member = DIMENSIONS[dimension] if dimension != "cohort_signup" else first_day(col("since")).cast(pl.String)
        grouped = frame.group_by(*keys, *groups).agg(sums)
        all_of_them.append(grouped.with_columns(dimension=lit(dimension), member=member).filter(col("member").is_not_null()).drop(groups))
    return pl.concat(pl.collect_all(all_of_them), how="diagonal")


# ── movements ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def churned(fact, version):
    """Why those who left did: by the account's last version."""
    last = (
        fact.lazy().filter(col("movement") == "churn").select("no", "p").join(version.lazy().select("no", "started_idx", "started_at", "ended_at", "subscription_id", "end_reason"), on="no")
        .filter(col("started_idx") <= col("p")).sort("ended_at", "started_at", "subscription_id", nulls_last=True).group_by("no", "p").agg(col("end_reason").last()))
    cause = when(col("end_reason").is_in(shape.INVOLUNTARY)).then(lit("involuntary")).when(col("end_reason").is_not_null()).then(lit("voluntary")).otherwise(lit("unknown"))
    return last.select(key(), cause.alias("churn_cause")).collect()


def changes(fact, version, holding):
    """Products at both ends of the periods in which one of their versions begins or ends, and the causes of what changed."""
    real = version.lazy().filter(col("from_idx") < col("to_idx"))
    places = pl.concat([real.select("no", "family", p="from_idx"), real.select("no", "family", p="to_idx")]).unique().filter(col("p").is_between(FIRST, LAST))
    held = lambda p: ((col("no") * PERIODS + p) * PRODUCTS + col("family")).alias("held")
    at = lambda end: holding.lazy().select("held", *(col(name).alias(f"{name}{end}") for name in ("n", "c", "q", "tier", "term")))
    changed = (
        places.with_columns(key(), held(col("p"))).join(at(1), on="held", how="left").with_columns(held(col("p") - 1)).join(at(0), on="held", how="left")
        .join(fact.lazy().select("key", "movement", "opening", "closing"), on="key").with_columns(col("movement").cast(pl.String)).collect())
    kept = changed.lazy().filter((col("opening") > 0) & (col("closing") > 0)).with_columns(col("movement").fill_null("expansion"))
    both = kept.filter(col("n0").is_not_null() & col("n1").is_not_null()).with_columns(by_quantity=rounded(col("c0") * (col("q1") - col("q0")), col("q0")))
    part = lambda frame, cause, mrr: frame.select("no", "p", "key", "family", "movement", cause=cause, mrr=mrr)
    rest = when(col("tier1") != col("tier0")).then(lit("plan")).when(col("term1") != col("term0")).then(lit("term")).otherwise(lit("price"))
    cause = pl.concat([
        part(kept.filter(col("n0").is_null()), lit("cross_sell"), col("n1")), part(kept.filter(col("n1").is_null()), lit("product_drop"), -col("n0")),
        part(both, lit("discount"), (col("c0") - col("n0")) - (col("c1") - col("n1"))), part(both, lit("quantity"), col("by_quantity")),
        part(both, rest, col("c1") - col("c0") - col("by_quantity"))]).filter(col("mrr") != 0).collect()
    return changed, cause


def movements(fact, holding, changed, cause, why):
    told = changed.lazy()
    none = lit(None, pl.String)
    part = lambda frame, movement, cause, mrr: frame.select("key", "family", movement=movement, cause=cause, mrr=mrr)
    moved = pl.concat([
        part(told.filter(col("movement").is_in(["new", "reactivation"])), col("movement"), none, col("n1")),
        part(told.filter(col("movement") == "churn").join(why.lazy(), on="key", how="left"), lit("churn"), col("churn_cause"), -col("n0")),
        part(cause.lazy(), col("movement"), col("cause"), col("mrr"))]).filter(col("mrr").is_not_null() & (col("mrr") != 0))
    members = fact.lazy().filter(col("p") >= FIRST - 1).select("key", "p", "region", "tier", "first_idx", "signup_idx")
    closing = holding.lazy().select(key=col("held") // PRODUCTS, family=col("held") % PRODUCTS, mrr="n")
    sums = [col("mrr").sum(), pl.len().cast(pl.Int64).alias("accounts")]
    rows = by_dimension(moved.join(members, on="key"), ["p", "family", "movement", "cause"], sums)
    closed = by_dimension(closing.join(members, on="key"), ["p", "family"], sums).with_columns(movement=lit("closing"))
    opened = closed.filter(col("p") < LAST).with_columns(col("p") + 1, movement=lit("opening"))
    # Only the tier of an account may change; what it opened with then leaves one member for the other.
    crossed = (
        fact.lazy().filter((col("p") >= FIRST) & (col("opening") > 0) & col("tier_was").ne_missing(col("tier"))).select("p", "tier", "tier_was", key=col("key") - 1)
        .join(closing, on="key").collect())
    ways = [
        crossed.group_by("p", "family", member=col(name).cast(pl.String).fill_null("(unknown)")).agg(col("mrr").sum() * sign, pl.len().cast(pl.Int64).alias("accounts"))
        .with_columns(dimension=lit("tier"), movement=lit(movement)) for name, movement, sign in (("tier_was", "segment_exit", -1), ("tier", "segment_entry", 1))]
    return pl.concat([rows, closed.filter(col("p") >= FIRST), opened, *ways], how="diagonal").filter(col("mrr") != 0)


# ── KPIs, cohorts, lifetime value ───────────────────────────────────────────────────────────────────────────────────────


def kpi_sums(fact):
    return by_dimension(derived(fact.lazy()), ["p"], [total(name).cast(pl.Float64) for name in shape.SUMS])


def kpis(sums):
    """The metrics in long form."""
    group = ["p", "dimension", "member"]
    trailing = [sums.select(col("p") + i, "dimension", "member", "churned_customers", "opening_customers") for i in range(shape.TRAILING)]
    pooled = pl.concat(trailing).group_by(group).agg(churn=col("churned_customers").sum() / when(col("opening_customers").sum() != 0).then(col("opening_customers").sum()))
    days = (first_day(col("p") + 1) - first_day(col("p"))).dt.total_days().cast(pl.Float64)
    ready = sums.filter(col("p") >= FIRST).join(pooled, on=group, how="left").with_columns(days=days, margin=lit(shape.MARGIN_PERCENT / 100)).lazy()
    z = 1.959963984540054
    p, n = col("value"), col("denominator")

    def wilson(side):
        return (p + z * z / (2 * n) + side * (z * (p * (1 - p) / n + z * z / (4 * n * n)).sqrt())) / (1 + z * z / n)

    rows = []
    for metric, (unit, numerator, denominator, sample, has_interval) in shape.METRICS.items():
        over = pl.sql_expr(denominator) if denominator else lit(None)
        row = ready.select(*group, metric=lit(metric), unit=lit(unit), numerator=pl.sql_expr(numerator).cast(pl.Float64), denominator=over.cast(pl.Float64),
                           sample_size=(pl.sql_expr(sample) if sample else lit(None)).cast(pl.Int64))
        row = row.with_columns(value=col("numerator") / when(n != 0).then(n) if denominator else col("numerator"))
        is_known = p.is_not_null() & lit(has_interval)
        rows.append(row.with_columns(
            lower=when(is_known).then(pl.min_horizontal(wilson(-1).clip(0, 1), p)), upper=when(is_known).then(pl.max_horizontal(wilson(1).clip(0, 1), p))))
    return pl.concat(pl.collect_all(rows))


def cells(fact):
    """Without merges a cohort's cell is the same in every period that knows it."""
    return (
        fact.lazy().filter(col("first_idx") >= FIRST).group_by(cohort="first_idx", age=col("p") - col("first_idx")).agg(
            customers=(col("closing") > 0).sum().cast(pl.Int64), mrr=col("closing").sum(), revenue=col("revenue").sum(),
            retained=pl.min_horizontal("cohort_mrr", "closing").sum(), cohort_mrr=col("cohort_mrr").sum())
        .sort("cohort", "age").with_columns(revenue_to_date=col("revenue").cum_sum().over("cohort")).collect())


def cohort_retention(cell, period):
    sizes = cell.filter((col("age") == 0) & (col("cohort") <= period.index)).select("cohort", cohort_size="customers", whole="cohort_mrr")
    ages = pl.DataFrame({"age": range(min(period.index - sizes["cohort"].min(), shape.MAX_AGE) + 1)}, schema={"age": pl.Int64})
    known = cell.filter(col("cohort") + col("age") <= period.index).drop("cohort_mrr")
    profit = col("revenue_to_date").cast(pl.Float64) * (shape.MARGIN_PERCENT / 100)
    return sizes.join(ages, how="cross").join(known, on=["cohort", "age"], how="left").sort("cohort", "age").select(
        cohort_start=first_day(col("cohort")), age="age", cohort_size="cohort_size", customers="customers", mrr=col("mrr").cast(MONEY), revenue=col("revenue").cast(MONEY),
        customer_retention=col("customers") / col("cohort_size"), nrr=col("mrr") / col("whole"), grr=col("retained") / col("whole"),
        cumulative_gross_profit_per_customer=profit / col("cohort_size"), is_complete=lit(True))


def account_period(fact, period, company, first_from, why, by_cause, account):
    """The published rows of one period."""
    opened, left = company
    customer = col("closing") > 0
    to_date = rounded(col("revenue_to_date") * shape.MARGIN_PERCENT, lit(100))
    expected = rounded(col("closing") * shape.MARGIN_PERCENT * opened, lit(100 * left)) if left else lit(0)
    causes = [f"{name}_mrr" for name in CAUSES.values()]
    is_upsold = (col("movement") == "expansion").fill_null(False) & ((col("plan_mrr") > 0) | (col("quantity_mrr") > 0))
    ranked = when(customer).then("ltv_expected")
    frame = (
        derived(fact.lazy().filter(col("p") == period.index))
        .join(account.lazy().select("no", "account_id", "account_name", "owner_id", "own_seats"), on="no", how="left", maintain_order="left")
        .join(first_from.lazy(), on="no", how="left", maintain_order="left")
        .join(why.lazy(), on="key", how="left", maintain_order="left").join(by_cause.lazy(), on="key", how="left", maintain_order="left")
        .with_columns(col(causes).fill_null(0), ltv_to_date=to_date)
        .with_columns(ltv_expected=col("ltv_to_date") + when(customer).then(expected).otherwise(0))
        .with_columns(
            fx_mrr=lit(0), contract_mrr=col("contract"), discount_mrr=col("contract") - col("closing"), involuntary_churned_customers=(col("churn_cause") == "involuntary").fill_null(False),
            retained_mrr_12m=pl.min_horizontal("year_ago", "closing"), retained_cohort_mrr=pl.min_horizontal("cohort_mrr", "closing"),
            upsold_accounts=is_upsold, cross_sold_accounts=col("cross_sell_mrr") > 0, seats=when(customer).then(pl.coalesce("own_seats", "quantity")).otherwise(0),
            tenure_days=when(customer).then((lit(period.end) - col("first_from")).dt.total_days()).otherwise(0), purchasing_accounts_12m=col("invoices_12m") > 0,
            days_since_last_payment=day(period.end) - 1 - col("last_payment"), days_since_last_use=day(period.end) - 1 - col("last_use"),
            ltv_percentile=(ranked.rank("min") - 1).cast(pl.Float64) / ranked.count(),
            upsell_target_accounts=col("opening_customers"), cross_sell_target_accounts=col("opening_customers"))
        .with_columns(upsold_target_accounts=(col("opening") > 0) & col("upsold_accounts"), cross_sold_target_accounts=(col("opening") > 0) & col("cross_sold_accounts")))
    kinds = {shape.COUNT: pl.Int64, shape.MONEY: MONEY, "DOUBLE": pl.Float64}
    fact_of = lambda names: [col(name).cast(kinds[kind]) for name, kind in names.items()]
    nothing = lambda group: [lit(None, kinds[kind]).alias(name) for name, kind in shape.NOT_MAPPED[group].items()]
    attributes = ["account_id", "account_name", "owner_id", lit(None, pl.Boolean).alias("is_strategic"), "region", DIMENSIONS["tier"].alias("tier"),
                  first_day(col("first_idx")).alias("cohort_first_paid"), first_day(when(col("signup_idx") <= col("p")).then("signup_idx")).alias("cohort_signup"),
                  lit(True).alias("is_complete")]
    return frame.select(*attributes, *fact_of(shape.FACTS), *nothing("before"), *fact_of(dict.fromkeys(shape.TARGETS, shape.COUNT)), *nothing("after"),
                        *fact_of({"features_used": shape.COUNT})).collect()


def main():
    began = time.time()

    def told(step):
        if given.times:
            print(f"{time.time() - began:7.2f} s, CPU {time.process_time():7.2f} s  {step}", file=sys.stderr)

    account = accounts()
    plans = pl.read_parquet(given.data / "plans.parquet").sort("plan_id", descending=True).with_row_index("rank_of_plan").with_columns(col("rank_of_plan").cast(pl.Int64))
    families = sorted(plans["family"].unique())
    plans = plans.with_columns(col("family").replace_strict({name: i for i, name in enumerate(families)}, return_dtype=pl.Int64))
    used = pl.concat([usage_month(period) for period in given.periods])
    used = used.join(account.select("no", "account_id"), on="account_id").drop("account_id").with_columns(key())
    told("usage")
    version, lines = versions(account, plans), billed(account)
    told("subscriptions, invoices")
    fact, holding = facts(account, version, plans, lines, used)
    told("facts")
    del lines, used
    why = churned(fact, version)
    changed, cause = changes(fact, version, holding)
    moves = movements(fact, holding, changed, cause, why)
    told("movements")
    sums = kpi_sums(fact)
    values = kpis(sums)
    told("KPIs")
    cell = cells(fact)
    by_cause = cause.lazy().group_by("key").agg(total(f"{name}_mrr", col("mrr").filter(col("cause") == word)) for word, name in CAUSES.items()).collect()
    company = sums.filter(col("dimension") == "total").sort("p").select(
        "p", *(col(name).rolling_sum(shape.TRAILING, min_samples=1).cast(pl.Int64) for name in ("opening_customers", "churned_customers")))
    company = {p: (opened, left) for p, opened, left in company.iter_rows()}
    first_from = version.filter(col("from_idx") < col("to_idx")).group_by("no").agg(first_from=col("paid_from").min())

    for period in given.periods:
        of = lambda frame: frame.filter(col("p") == period.index)
        tables = {
            "account_period": account_period(fact, period, company[period.index], first_from, why, by_cause, account),
            "kpi_values": of(values).sort("dimension", "member", "metric").select(
                "dimension", "member", "metric", "value", "numerator", "denominator", "unit", is_complete=lit(True), is_restated=lit(False), lower="lower", upper="upper",
                sample_size="sample_size", is_small_sample=col("sample_size") < shape.SMALL_SAMPLE, is_mature=lit(None, pl.Boolean)),
            "mrr_movements": of(moves).select(
                "dimension", "member", product=col("family").replace_strict(dict(enumerate(families)), return_dtype=pl.String), movement="movement", cause="cause",
                mrr=col("mrr").cast(MONEY), accounts="accounts", is_complete=lit(True)).sort("dimension", "member", "product", "movement", "cause"),
            "cohort_retention": cohort_retention(cell, period),
        }
        for table, frame in tables.items():
            frame = frame.select(period_start=lit(period.start), period_end=lit(period.end), **{name: name for name in frame.columns})
            frame.write_parquet(shape.target(given.out, table, period), compression="zstd")
    told("written")


if __name__ == "__main__":
    main()
