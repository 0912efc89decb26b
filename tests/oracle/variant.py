"""One description of a pipeline, read by both sides: the pipeline file for the program, and params.json for the oracle made from that same file.

    python variant.py NAME --out DIR [--data random]        DIR/data/, DIR/pipeline.yaml, DIR/params.json
    python variant.py NAME --out DIR --company DIR          the same over the files of `cskpi generate --format both`
    python variant.py --of pipelines/quickstart.yaml --as-of 2026-04-02T00:00:00Z --out DIR     params.json of a file as it is
    python variant.py --list

The program is run on pipeline.yaml in DIR, with ROOT as outputs.root; params.json also holds the months to compute (`start`, `end`).
"""

import argparse
import csv
import json
import zlib
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

import compare
import make_fixture

SUCCESS = ["opportunities", "members", "onboarding", "surveys", "tickets", "community", "costs", "time_entries", "targets"]

BASE = {
    "version": 1,
    "name": "oracle",
    "currency": "JPY",
    "calendar": {"time_zone": "Asia/Tokyo", "ready_after": "24h"},
    "policy": {"gross_margin": 0.75, "past_due_grace_days": 30, "ltv_segment": "industry", "bootstrap_samples": 40},
    "dimensions": {
        "industry": "industry",
        "region": "region",
        "channel": "channel",
        "employee_band": "CASE WHEN employee_count < 50 THEN '1-49' WHEN employee_count < 300 THEN '50-299' "
        "WHEN employee_count < 1000 THEN '300-999' WHEN employee_count >= 1000 THEN '1000+' END",
        "plan": "plan_id",
        "rfm_segment": "rfm_segment",
        "touch_model": "touch_model",
    },
    "cohorts": {"industry_region": {"by": ["industry", "region"]}},
    "rfm": {},
    "touch_model": {"hold_periods": 1, "owners": {"high": ["o2", "o3", "owner-1", "owner-2", "csm-21"], "low": ["o1", "owner-3", "csm-16"]}},
    "outputs": {"root": "${ROOT}"},
}

# What is laid over BASE (a null takes a key away), and under `_data` what is done to the files first.
VARIANTS = {
    "as_they_stand": {},
    "churn_at_cancel_request_and_all_discounts": {"policy": {"churn_at": "cancel_request", "discounts": "all"}},
    "no_discounts": {"policy": {"discounts": "none"}},
    "past_due_without_end_of_grace": {"policy": {"past_due_grace_days": None}},
    "past_due_for_no_day_and_own_involuntary_reasons": {"policy": {"past_due_grace_days": 0, "involuntary_reasons": ["price", "not_needed"]}},
    "amount_is_the_total": {"policy": {"amount": "total"}},
    "nrr_with_reactivation": {"policy": {"nrr_includes_reactivation": True, "ltv_segment": None}},
    "ltv_churn_of_three_periods": {"policy": {"ltv_churn_periods": 3, "ltv_segment": "region", "gross_margin": 0.333}},
    "mau_of_the_calendar_month": {"policy": {"mau_window": "calendar"}},
    "sessions_end_after_ten_minutes": {"policy": {"session_gap_minutes": 10}},
    "cohorts_up_to_age_four": {"policy": {"cohort_max_age": 4}},
    "rfm_by_ntile": {"rfm": {"method": "ntile", "window_days": 120}},
    "rfm_by_thresholds_and_own_segments": {
        "rfm": {
            "method": "thresholds",
            "thresholds": {"recency": [7, 30, 60, 90], "frequency": [1, 3, 10, 30], "monetary": [1, 1000, 10000.5, 50000]},
            "segments": [
                {"name": "Best", "r": [4, 5], "f": [3, 5], "m": [3, 5]},
                {"name": "Big", "m": [4, 5]},
                {"name": "Gone", "r": [1, 1]},
                {"name": "Rest"},
            ],
            "first_match": True,
        }
    },
    "rfm_of_payments": {"rfm": {"recency": "payment", "frequency": "invoices", "window_days": 180}},
    "rfm_of_mrr": {"rfm": {"monetary": "mrr", "window_days": 90}},
    "touch_by_own_rules_capacity_and_hold": {
        "touch_model": {
            "hold_periods": 2,
            "rules": [
                {"name": "strategic", "model": "high", "when": "is_strategic", "capacity": 1},
                {"name": "large", "model": "high", "when": "closing_mrr >= 20000 OR seats > 20", "capacity": 2},
                {"name": "active in retail", "model": "low", "when": "industry = 'Retail' AND mau > 0"},
                {"name": "grown", "model": "low", "when": "expansion_mrr > 0 AND rfm_segment <> 'Hibernating'"},
                {"name": "young or silent", "model": "community", "when": "days_since_last_use IS NULL OR tenure_days < 40"},
                {"name": "rest", "model": "tech", "when": "TRUE"},
            ],
            "owners": {"high": ["o3", "owner-1"], "low": ["o1", "o2"], "community": ["owner-4"]},
        }
    },
    "touch_rules_that_leave_some_out": {
        "touch_model": {
            "hold_periods": 1,
            "rules": [
                {"name": "large", "model": "high", "when": "closing_mrr >= 20000", "capacity": 2},
                {"name": "young", "model": "community", "when": "tenure_days < 60"},
            ],
        }
    },
    "reporting_in_dollars": {"currency": "USD", "_data": ["rates_to_dollars"]},
    "reporting_in_dinars": {"currency": "KWD", "_data": ["rates_to_dinars"]},
    "days_of_new_york": {"calendar": {"time_zone": "America/New_York"}},
    "a_later_begin": {"calendar": {"begin_after": 4}},
    "a_later_start": {"_start_after": 5, "touch_model": {"hold_periods": 2}},
    "other_dimensions_and_cohorts": {
        "dimensions": {
            "channel": None,
            "strategic": "is_strategic",
            "headcount": "employee_count",
            "family": "plan_family",
            "tier": "plan_tier",
            "owner": "owner_id",
            "account_group": "CASE WHEN account_id IN ('acme', 'bravo') THEN 'first' WHEN name LIKE 'Account 1%' THEN 'one' ELSE LOWER(region) END",
        },
        "cohorts": {"industry_region": None, "family_tier_owner": {"by": ["family", "tier", "owner"]}, "served": {"by": ["touch_model", "rfm_segment"]}},
        "policy": {"ltv_segment": "family"},
    },
    "seats_in_a_dimension": {"dimensions": {"seat_count": "seats"}},
    "sessions_by_id_and_seconds": {"_data": ["session_ids"]},
    "usage_as_sessions": {"_data": ["usage_sessions"]},
    "ready_mrr": {"_data": ["ready_mrr"]},
    "only_the_two_tables_it_needs": {"rfm": None, "dimensions": {"rfm_segment": None}, "_data": ["jpy_only", "two_tables"]},
    "no_usage": {"rfm": {"recency": "payment", "frequency": "invoices"}, "_data": ["no_usage"]},
    "no_invoices": {"rfm": {"monetary": "mrr"}, "_data": ["no_invoices"]},
    "cost_of_retention_by_mrr": {"policy": {"crc_allocation": "mrr"}, "_data": ["no_time"]},
    "offered_accounts": {"policy": {"upsell_base": "offered"}},
    "onboarding_of_members": {"policy": {"onboarding_unit": "member", "onboarding_window_days": 14}},
    "onboarding_told_by_usage": {"policy": {"onboarding_rule": {"features": 2, "hours": 0.02, "within_days": 45}}},
    "short_windows_and_small_samples": {"policy": {"nps_window_days": 30, "community_window_days": 7, "small_sample": 4, "at_risk_within": 0.5, "onboarding_window_days": 1}},
    "without_draws_far_projection": {"policy": {"bootstrap_samples": 0, "discount_rate": 0.25, "survival_horizon": 40}},
    "without_discounting_or_projection": {"policy": {"bootstrap_samples": 7, "discount_rate": 0, "survival_horizon": 0}},
    "values_of_then": {
        "dimensions": {
            "owner": "owner_id",
            "more_seats": "seats > previous(seats)",
            "valuable": "ltv_expected >= 100000.5 OR cs_people_cost > 100",
            "direction": "CASE WHEN previous(closing_mrr) < closing_mrr THEN 'up' WHEN previous(closing_mrr) > closing_mrr THEN 'down' WHEN year_ago(closing_mrr) > 0 THEN 'as it was' END",
        },
        "touch_model": {
            "hold_periods": 0,
            "rules": [
                {"name": "grew", "model": "high", "when": "closing_mrr > previous(closing_mrr) AND previous(closing_customers) = 1", "capacity": 3},
                {"name": "old", "model": "low", "when": "year_ago(closing_mrr) >= 1000 OR community_active"},
                {"name": "fell silent", "model": "community", "when": "previous(events) > 0 AND events = 0"},
                {"name": "costly", "model": "tech", "when": "cs_people_cost > 0.05 * mrr OR tickets_escalated > 0 OR nps_detractors > nps_promoters"},
                {"name": "rest", "model": "tech", "when": "true"},
            ],
        },
    },
    "own_metrics": {
        "metrics": {
            "define": {
                "large_account_mrr_share": {"label": {"en": "a", "ja": "b"}, "description": "c", "unit": "ratio", "good": "up", "numerator": "SUM(CASE WHEN seats >= 20 THEN closing_mrr ELSE 0 END)", "denominator": "SUM(closing_mrr)"},
                "silent_share": {"label": {"en": "a", "ja": "b"}, "description": "c", "unit": "ratio", "good": "down", "interval": "proportion",
                                 "numerator": "SUM(CASE WHEN closing_customers = 1 AND events = 0 THEN 1 ELSE 0 END)", "denominator": "SUM(closing_customers)", "dimensions": ["region", "cohort_signup"]},
                "mrr_on_year": {"label": {"en": "a", "ja": "b"}, "description": "c", "unit": "multiple", "good": "up", "numerator": "mrr", "denominator": "year_ago(mrr)"},
                "won_growth": {"label": {"en": "a", "ja": "b"}, "description": "c", "unit": "count", "good": "up", "numerator": "deals_won - COALESCE(previous(deals_won), 0)"},
                "share_of_silence": {"label": {"en": "a", "ja": "b"}, "description": "c", "unit": "multiple", "good": "down", "numerator": "silent_share / total(silent_share)", "denominator": "previous(mrr) / total(mrr)", "dimensions": ["region"]},
            }
        }
    },
    "nothing_of_success": {"_data": ["no_success"]},
    "little_of_success": {"_data": ["little_success"]},
    "company": {"policy": {"bootstrap_samples": 5}, "cohorts": {"region_plan": {"by": ["region", "plan"]}}},
}


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
def changed(folder, table, change):
    """Writes a table anew: change(rows) of dicts gives its rows, all with the same keys."""
    file = folder / f"{table}.csv"
    with open(file, newline="", encoding="utf-8") as handle:
        rows = change(list(csv.DictReader(handle)))
    with open(file, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rates_to(code_to, of_yen, of_others):
    def change(rows):
        yen = [{"date": r["date"], "currency": "JPY", "rate": f"{of_yen / float(r['rate']):.8f}"} for r in rows if r["currency"] == "USD"]
        others = [{**r, "rate": f"{of_others * float(r['rate']):.7f}"} for r in rows if r["currency"] != code_to]
        # The oldest subscription stands a month before the first rate.
        early = [{"date": "2021-01-01", "currency": code, "rate": rate} for code, rate in (("JPY", of_yen / 140), ("USD", of_others * 140), ("EUR", of_others * 155))]
        return [{**r, "rate": f"{r['rate']:.8f}"} for r in early if r["currency"] != code_to] + yen + others

    return lambda folder: changed(folder, "fx_rates", change)


def session_ids(folder):
    def change(rows):
        for i, row in enumerate(rows):
            row["session_id"] = f"s{i % 3}"
            row["seconds"] = "" if i % 5 == 0 else i * 7 % 1000
        return rows

    changed(folder, "usage_events", change)


def usage_sessions(folder):
    def change(rows):
        session = []
        for i, row in enumerate(rows):
            text = row["occurred_at"]
            length = timedelta(seconds=i * 37 % 7200, milliseconds=i % 3 * 450)
            started = datetime.fromisoformat(text.replace("Z", "+00:00"))
            ended = (started + length).isoformat().replace("+00:00", "Z")
            session.append({"account_id": row["account_id"], "user_id": row["user_id"], "started_at": text, "ended_at": ended})
        return session

    changed(folder, "usage_events", change)
    (folder / "usage_events.csv").rename(folder / "usage_sessions.csv")


def ready_mrr(folder):
    def change(rows):
        # Every other row has one; where it has none, amount and interval count as ever.
        return [{**row, "mrr": f"{i * 611 % 30000 / 100:.2f}" if i % 2 else ""} for i, row in enumerate(rows)]

    changed(folder, "subscriptions", change)


def left_out(*tables):
    def change(folder):
        for table in tables:
            (folder / f"{table}.csv").unlink()

    return change


DATA = {
    "rates_to_dollars": rates_to("USD", 1, 0.00671),
    "rates_to_dinars": rates_to("KWD", 0.3071234, 0.002061),
    "session_ids": session_ids,
    "usage_sessions": usage_sessions,
    "ready_mrr": ready_mrr,
    "jpy_only": lambda folder: changed(folder, "subscriptions", lambda rows: [{**row, "currency": "JPY"} for row in rows]),
    "two_tables": left_out("account_merges", "plans", "invoice_lines", "fx_rates", "usage_events", *SUCCESS),
    "no_usage": left_out("usage_events"),
    "no_invoices": left_out("invoice_lines"),
    "no_time": left_out("time_entries"),
    "no_success": left_out(*SUCCESS),
    "little_success": left_out("onboarding", "time_entries", "tickets", "targets"),
}


# ── pipeline and params ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def laid_over(base, changes):
    result = dict(base)
    for key, value in changes.items():
        if key.startswith("_"):
            continue
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = laid_over(base[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def taken(source, what, *known):
    """The source's values; stops at a key that the oracle knows nothing of."""
    if strange := set(source) - set(known):
        raise SystemExit(f"variant.py does not translate {what}.{', '.join(sorted(strange))}")
    return {key: value for key, value in source.items() if value is not None}


def next_month(day, months=1):
    index = 12 * day.year + day.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def params_of(pipeline, as_of, first=None, end=None):
    """params.json for a pipeline file. `first`: month to start with, calendar.begin or what lookback reaches if not given."""
    taken(pipeline, "pipeline", "version", "name", "currency", "calendar", "sources", "policy", "dimensions", "cohorts", "rfm", "touch_model", "metrics", "outputs")
    calendar = taken(pipeline["calendar"], "calendar", "grain", "time_zone", "fiscal_year_start", "begin", "end", "ready_after", "lookback")
    if calendar.get("grain", "month") != "month":
        raise SystemExit("the oracle knows months only")
    policy = taken(pipeline["policy"], "policy", "gross_margin", "amount", "discounts", "past_due_grace_days", "churn_at", "involuntary_reasons",
                   "nrr_includes_reactivation", "ltv_churn_periods", "ltv_segment", "mau_window", "session_gap_minutes", "cohort_max_age",
                   "nps_window_days", "onboarding_unit", "onboarding_window_days", "onboarding_rule", "community_window_days", "upsell_base", "crc_allocation",
                   "small_sample", "bootstrap_samples", "discount_rate", "survival_horizon", "at_risk_within")
    rfm = taken(pipeline.get("rfm") or {}, "rfm", "method", "window_days", "recency", "frequency", "monetary", "thresholds", "segments", "first_match")
    touch = taken(pipeline.get("touch_model") or {}, "touch_model", "rules", "hold_periods", "owners")
    ready_after = str(calendar.get("ready_after", "0h"))
    hours = int(ready_after[:-1]) * {"h": 1, "d": 24}[ready_after[-1]]
    begin = date.fromisoformat(str(calendar["begin"]))
    if end is None:
        # The last complete month, as `run` finds it.
        now = datetime.fromisoformat(as_of.replace("Z", "+00:00")) - timedelta(hours=hours)
        end = now.astimezone(ZoneInfo(calendar["time_zone"])).date().replace(day=1)
        if "end" in calendar:
            end = min(end, date.fromisoformat(str(calendar["end"])))
        first = max(begin, next_month(end, -1 - int(calendar.get("lookback", 1))))
    without = {"rfm_scores", "rfm_boundaries"} if pipeline.get("rfm") is None else set()
    without |= {table for table, needed in (("time_spent", "time_entries"), ("kpi_attainment", "targets")) if needed not in pipeline["sources"]}
    return {
        **policy,
        "currency": pipeline["currency"],
        "minor_digits": {"JPY": 0, "USD": 2, "EUR": 2, "KWD": 3},
        "time_zone": calendar["time_zone"],
        "begin": str(begin),
        "ready_after_hours": hours,
        "as_of": as_of,
        "dimensions": pipeline["dimensions"],
        "cohorts": {name: cohort["by"] for name, cohort in pipeline.get("cohorts", {}).items()},
        "member_separator": " | ",
        "rfm": rfm,
        "own_metrics": taken(pipeline.get("metrics") or {}, "metrics", "define").get("define"),
        "touch": touch,
        "tables": ",".join(table for table in compare.KEYS if table not in without),
        "start": str(first or begin)[:7],
        "end": str(end)[:7],
    }


def written(name, data, out, company):
    variant = VARIANTS[name]
    pipeline = laid_over(BASE, variant)
    folder = company or out / "data"
    if company:
        begin, months, as_of = date(2022, 4, 1), 36, "2025-05-01T00:00:00Z"
    elif data == "random":
        # Each variant has accounts of its own.
        begin, months, as_of = date(2022, 1, 1), 15, "2023-04-01T00:00:00Z"
        folder.mkdir(parents=True, exist_ok=True)
        make_fixture.random_data(folder, 100, months, 12_000, zlib.crc32(name.encode()))
    else:
        begin, months, as_of = date(2024, 1, 1), 9, "2024-10-01T00:00:00Z"
        folder.mkdir(parents=True, exist_ok=True)
        make_fixture.stories(folder)
    for change in variant.get("_data", ()):
        DATA[change](folder)
    end = next_month(begin, months)
    begin = next_month(begin, pipeline["calendar"].pop("begin_after", 0))
    pipeline["calendar"]["begin"] = str(begin)
    tables = ["accounts", "account_merges", "plans", "subscriptions", "invoice_lines", "fx_rates", "usage_events", "usage_sessions", *SUCCESS]
    sources = {table: folder / f"{table}.csv" for table in tables}
    if company:
        # The program reads Parquet where the oracle reads CSV.
        sources |= {"invoice_lines": folder / "invoice_lines.parquet", "usage_events": folder / "usage_events/**/*.parquet"}
    is_there = lambda path: "*" in str(path) or path.exists()
    pipeline["sources"] = {table: {"path": str(path)} for table, path in sources.items() if is_there(path)}
    # Of the random months most are history only: they enter into what is published after them.
    first = next_month(begin, variant.get("_start_after", 8 if data == "random" and name not in ("as_they_stand", "a_later_begin") else 0))
    params = params_of(pipeline, as_of, first, end)
    # JSON is YAML.
    (out / "pipeline.yaml").write_text(json.dumps(pipeline, indent=2, ensure_ascii=False))
    (out / "params.json").write_text(json.dumps(params, indent=2, ensure_ascii=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=list(VARIANTS))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--of", type=Path)
    parser.add_argument("--as-of")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", choices=["stories", "random"], default="stories")
    parser.add_argument("--company", type=Path)
    args = parser.parse_args()
    if args.list:
        print("\n".join(VARIANTS))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.of:
        params = params_of(yaml.safe_load(args.of.read_text(encoding="utf-8")), args.as_of)
        (args.out / "params.json").write_text(json.dumps(params, indent=2, ensure_ascii=False))
    else:
        written(args.name, args.data, args.out.resolve(), args.company and args.company.resolve())


if __name__ == "__main__":
    main()
