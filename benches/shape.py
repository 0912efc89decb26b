"""What the tables of the bench look like, for both of the programs that compute them a second time (docs/definitions.md says what they mean)."""

import argparse
import datetime
from pathlib import Path

MARGIN_PERCENT = 75  # policy.gross_margin
TRAILING = 6  # policy.ltv_churn_periods
MAX_AGE = 36  # policy.cohort_max_age
SMALL_SAMPLE = 30
SESSION_GAP_US = 30 * 60 * 1_000_000
ZONE_US = 9 * 3600 * 1_000_000  # Asia/Tokyo has no summer time
INVOLUNTARY = ["payment_failed", "dunning", "card_expired", "unpaid"]
DAY_US = 86_400_000_000

TABLES = {
    "account_period": ["account_id"],
    "kpi_values": ["dimension", "member", "metric"],
    "mrr_movements": ["dimension", "member", "product", "movement", "cause"],
    "cohort_retention": ["cohort_start", "age"],
}

COUNT, MONEY = "BIGINT", "DECIMAL(18,0)"

# Columns of account_period after the attributes, in order. `None`: its input is not there, so it is null.
_MRR = "opening_mrr new_mrr reactivation_mrr expansion_mrr contraction_mrr churn_mrr fx_mrr closing_mrr cross_sell_mrr product_drop_mrr plan_mrr quantity_mrr " \
       "discount_change_mrr term_mrr price_mrr contract_mrr discount_mrr trial_mrr usage_mrr retained_mrr mrr_12m_ago current_mrr_of_12m_ago retained_mrr_12m " \
       "cohort_mrr retained_cohort_mrr"
FACTS = {
    **dict.fromkeys("opening_customers new_customers reactivated_customers churned_customers closing_customers involuntary_churned_customers".split(), COUNT),
    **dict.fromkeys(_MRR.split(), MONEY),
    **dict.fromkeys("upsold_accounts cross_sold_accounts seats tenure_days".split(), COUNT),
    **dict.fromkeys("revenue revenue_to_date".split(), MONEY), "invoices_to_date": COUNT, "revenue_12m": MONEY,
    **dict.fromkeys("invoices_12m purchasing_accounts_12m days_since_last_payment events sessions session_seconds active_days active_user_days wau mau "
                    "active_accounts days_since_last_use".split(), COUNT),
    "ltv_to_date": MONEY, "ltv_expected": MONEY, "ltv_percentile": "DOUBLE",
}
TARGETS = "upsell_target_accounts upsold_target_accounts cross_sell_target_accounts cross_sold_target_accounts".split()
NOT_MAPPED = {
    "before": dict([("deals_won", COUNT), ("deals_lost", COUNT), ("won_amount", MONEY), ("lost_amount", MONEY), ("renewals_won", COUNT), ("renewals_lost", COUNT)]),
    "after": {
        **dict.fromkeys("members members_onboarded onboardings_started onboardings_completed onboardings_open onboardings_due onboardings_due_completed "
                        "nps_respondents nps_promoters nps_detractors csat_answers csat_satisfied tickets_opened tickets_escalated tickets_responded "
                        "first_response_seconds tickets_closed resolution_seconds ticket_ratings ticket_ratings_satisfied community_activities community_users "
                        "community_active_accounts".split(), COUNT),
        **dict.fromkeys("marketing_cost sales_cost cs_people_cost cs_tools_cost".split(), MONEY), "cs_seconds": COUNT,
    },
}

# What is summed over accounts, each sum exact and then one Float64.
SUMS = ("opening_customers new_customers reactivated_customers churned_customers closing_customers opening_mrr new_mrr reactivation_mrr expansion_mrr "
        "contraction_mrr churn_mrr closing_mrr retained_mrr mrr_12m_ago current_mrr_of_12m_ago paid_12m_ago revenue active_user_days wau mau active_accounts "
        "sessions session_seconds features_used").split()

# metric → (unit, numerator, denominator, sample, has Wilson's interval), in SQL over the sums, `days`, `churn` (trailing) and `margin`.
METRICS = {
    "opening_mrr": ("currency", "opening_mrr", None, None, False),
    "new_mrr": ("currency", "new_mrr", None, None, False),
    "reactivation_mrr": ("currency", "reactivation_mrr", None, None, False),
    "expansion_mrr": ("currency", "expansion_mrr", None, None, False),
    "contraction_mrr": ("currency", "contraction_mrr", None, None, False),
    "churn_mrr": ("currency", "churn_mrr", None, None, False),
    "mrr": ("currency", "closing_mrr", None, None, False),
    "new_customers": ("accounts", "new_customers", None, None, False),
    "churned_customers": ("accounts", "churned_customers", None, None, False),
    "closing_customers": ("accounts", "closing_customers", None, None, False),
    "churn_rate": ("ratio", "churned_customers", "opening_customers", "opening_customers", True),
    "retention_rate": ("ratio", "closing_customers - new_customers - reactivated_customers", "opening_customers", "opening_customers", True),
    "gross_mrr_churn_rate": ("ratio", "churn_mrr + contraction_mrr", "opening_mrr", "opening_customers", False),
    "nrr": ("ratio", "opening_mrr + expansion_mrr - contraction_mrr - churn_mrr", "opening_mrr", "opening_customers", False),
    "grr": ("ratio", "retained_mrr", "opening_mrr", "opening_customers", False),
    "nrr_12m": ("ratio", "current_mrr_of_12m_ago", "mrr_12m_ago", "paid_12m_ago", False),
    "quick_ratio": ("multiple", "new_mrr + expansion_mrr + reactivation_mrr", "contraction_mrr + churn_mrr", "opening_customers", False),
    "arpa": ("currency", "closing_mrr", "closing_customers", "closing_customers", False),
    "ltv": ("currency", "closing_mrr / nullif(closing_customers, 0) * margin", "churn", "closing_customers", False),
    "revenue": ("currency", "revenue", None, None, False),
    "dau": ("users", "active_user_days", "days", None, False),
    "wau": ("users", "wau", None, None, False),
    "mau": ("users", "mau", None, None, False),
    "stickiness": ("ratio", "active_user_days / days", "mau", "active_accounts", False),
    "active_accounts": ("accounts", "active_accounts", None, None, False),
    "sessions_per_user": ("count", "sessions", "mau", None, False),
    "avg_session_minutes": ("minutes", "session_seconds", "sessions * 60", None, False),
    "features_per_account": ("count", "features_used", "active_accounts", "active_accounts", False),
}


class Period:
    """A month: its index, as docs/definitions.md § 1 counts it, and its days."""

    def __init__(self, index):
        self.index = index
        self.start = datetime.date(index // 12, index % 12 + 1, 1)
        self.end = datetime.date((index + 1) // 12, (index + 1) % 12 + 1, 1)
        # the days that the 30 before the end reach back to
        self.reads_from = min(self.start, self.end - datetime.timedelta(days=30))


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--begin", type=datetime.date.fromisoformat, required=True, help="first day of the first month")
    parser.add_argument("--months", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", action="store_true", help="tell on standard error how long each step took")
    given = parser.parse_args()
    first = 12 * given.begin.year + given.begin.month - 1
    given.periods = [Period(index) for index in range(first, first + given.months)]
    return given


def event_files(data, period):
    """The files of a period's days, and of those before it that its last 30 days reach back to."""
    days = (Path(file) for file in sorted((data / "usage_events").glob("*.parquet")))
    return [str(file) for file in days if period.reads_from <= datetime.date.fromisoformat(file.stem) < period.end]


def target(out, table, period):
    folder = out / table / f"period={period.start}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "part-0.parquet"
