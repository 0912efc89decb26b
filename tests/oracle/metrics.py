"""Every metric of kpi_values by docs/definitions.md: what is summed over the accounts, and what the sums are put together to.

SUMS: name → (kind, SQL over the columns of account_period). Sums are exact; each becomes Float64 once, money in major units.
METRICS: id → (unit, good, kind, numerator, denominator), SQL over the sums and over `churn` (the trailing monthly churn rate), `days`, `margin` and what FORMULAS name.
  kind: `sum`, `ratio` (of sums: may be summed over members and divided again), `formula` (over other metrics; a ratio where it has a denominator).
"""

import re

COUNT, MONEY = "count", "money"

SUMS = {
    "opening": (COUNT, "opening_customers"), "new": (COUNT, "new_customers"), "reactivated": (COUNT, "reactivated_customers"), "churned": (COUNT, "churned_customers"),
    "involuntary": (COUNT, "involuntary_churned_customers"), "closing": (COUNT, "closing_customers"),
    **{name: (MONEY, name) for name in (
        "opening_mrr new_mrr reactivation_mrr expansion_mrr contraction_mrr churn_mrr fx_mrr closing_mrr contract_mrr discount_mrr trial_mrr usage_mrr retained_mrr "
        "mrr_12m_ago current_mrr_of_12m_ago retained_mrr_12m revenue revenue_12m won_amount marketing_cost sales_cost").split()},
    # what is made of several columns is summed exactly before it becomes Float64
    "arr": (MONEY, "12 * closing_mrr"),
    "lost_mrr": (MONEY, "churn_mrr + contraction_mrr"),
    "net_lost_mrr": (MONEY, "churn_mrr + contraction_mrr - expansion_mrr"),
    "nrr_mrr": (MONEY, "opening_mrr + expansion_mrr - contraction_mrr - churn_mrr + CASE WHEN getvariable('nrr_includes_reactivation') THEN reactivation_mrr ELSE 0 END"),
    "gained_mrr": (MONEY, "new_mrr + expansion_mrr + reactivation_mrr"),
    "closed_amount": (MONEY, "won_amount + lost_amount"),
    "acquisition": (MONEY, "marketing_cost + sales_cost"),
    "crc": (MONEY, "cs_people_cost + cs_tools_cost"),
    "year_of_crc": (MONEY, "12 * (cs_people_cost + cs_tools_cost)"),
    "paid_12m_ago": (COUNT, "(mrr_12m_ago > 0)::BIGINT"),
    # Σ MAU of customers with seats > 0
    "seated_mau": (COUNT, "CASE WHEN closing_customers = 1 AND seats > 0 THEN mau ELSE 0 END"),
    "deals_closed": (COUNT, "deals_won + deals_lost"), "renewals_closed": (COUNT, "renewals_won + renewals_lost"),
    "session_minutes_below": (COUNT, "60 * sessions"),
    "nps_balance": (COUNT, "100 * (nps_promoters - nps_detractors)"), "nps_squares": (COUNT, "nps_promoters + nps_detractors"),
    "csat_percent": (COUNT, "100 * csat_satisfied"), "ticket_csat_percent": (COUNT, "100 * ticket_ratings_satisfied"),
    "response_below": (COUNT, "3600 * tickets_responded"), "resolution_below": (COUNT, "3600 * tickets_closed"),
    **{name: (COUNT, name) for name in (
        "seats tenure_days purchasing_accounts_12m active_user_days wau mau active_accounts session_seconds upsell_target_accounts upsold_target_accounts "
        "cross_sell_target_accounts cross_sold_target_accounts deals_won renewals_won members members_onboarded onboardings_started onboardings_completed onboardings_open "
        "onboardings_due onboardings_due_completed nps_respondents csat_answers tickets_opened tickets_escalated tickets_responded first_response_seconds tickets_closed "
        "resolution_seconds ticket_ratings community_active_accounts community_users cs_seconds features_used").split()},
}

# Named parts of formulas, in order: each may use those before it.
FORMULAS = {
    "arpa": "closing_mrr / nullif(closing, 0)",
    "hours": "cs_seconds / 3600",
    "dau": "active_user_days / days",
    "annualized": "1 - power(1 - churned / nullif(opening, 0), 12)",
    "ltv": "arpa * margin / nullif(churn, 0)",
    "cac": "acquisition / nullif(new, 0)",
    "crc_per_customer": "crc / nullif(closing, 0)",
    "crc_lifetime": "crc_per_customer / nullif(churn, 0)",
}

METRICS = {
    "opening_customers": ("accounts", "up", "sum", "opening", None),
    "new_customers": ("accounts", "up", "sum", "new", None),
    "reactivated_customers": ("accounts", "up", "sum", "reactivated", None),
    "churned_customers": ("accounts", "down", "sum", "churned", None),
    "involuntary_churned_customers": ("accounts", "down", "sum", "involuntary", None),
    "closing_customers": ("accounts", "up", "sum", "closing", None),
    "churn_rate": ("ratio", "down", "ratio", "churned", "opening"),
    "retention_rate": ("ratio", "up", "ratio", "closing - new - reactivated", "opening"),
    "annualized_churn_rate": ("ratio", "down", "formula", "annualized", None),
    "mrr": ("currency", "up", "sum", "closing_mrr", None),
    "arr": ("currency", "up", "sum", "arr", None),
    "opening_mrr": ("currency", "up", "sum", "opening_mrr", None),
    "new_mrr": ("currency", "up", "sum", "new_mrr", None),
    "reactivation_mrr": ("currency", "up", "sum", "reactivation_mrr", None),
    "expansion_mrr": ("currency", "up", "sum", "expansion_mrr", None),
    "contraction_mrr": ("currency", "down", "sum", "contraction_mrr", None),
    "churn_mrr": ("currency", "down", "sum", "churn_mrr", None),
    "fx_mrr": ("currency", "neutral", "sum", "fx_mrr", None),
    "contract_mrr": ("currency", "up", "sum", "contract_mrr", None),
    "discount_mrr": ("currency", "down", "sum", "discount_mrr", None),
    "trial_mrr": ("currency", "up", "sum", "trial_mrr", None),
    "usage_mrr": ("currency", "up", "sum", "usage_mrr", None),
    "gross_mrr_churn_rate": ("ratio", "down", "ratio", "lost_mrr", "opening_mrr"),
    "net_mrr_churn_rate": ("ratio", "down", "ratio", "net_lost_mrr", "opening_mrr"),
    "nrr": ("ratio", "up", "ratio", "nrr_mrr", "opening_mrr"),
    "grr": ("ratio", "up", "ratio", "retained_mrr", "opening_mrr"),
    "nrr_12m": ("ratio", "up", "ratio", "current_mrr_of_12m_ago", "mrr_12m_ago"),
    "grr_12m": ("ratio", "up", "ratio", "retained_mrr_12m", "mrr_12m_ago"),
    "quick_ratio": ("multiple", "up", "ratio", "gained_mrr", "lost_mrr"),
    "arpa": ("currency", "up", "ratio", "closing_mrr", "closing"),
    "upsell_rate": ("ratio", "up", "ratio", "upsold_target_accounts", "upsell_target_accounts"),
    "cross_sell_rate": ("ratio", "up", "ratio", "cross_sold_target_accounts", "cross_sell_target_accounts"),
    "ltv": ("currency", "up", "formula", "arpa * margin", "churn"),
    "ltv_tenure": ("currency", "up", "formula", "arpa * tenure_days", "closing * 30.4375::DOUBLE"),
    "ltv_purchase": ("currency", "up", "formula", "revenue_12m * tenure_days", "purchasing_accounts_12m * closing * 365.25::DOUBLE"),
    "dau": ("users", "up", "formula", "active_user_days", "days"),
    "wau": ("users", "up", "sum", "wau", None),
    "mau": ("users", "up", "sum", "mau", None),
    "stickiness": ("ratio", "up", "formula", "dau", "mau"),
    "active_accounts": ("accounts", "up", "sum", "active_accounts", None),
    "seat_utilization": ("ratio", "up", "ratio", "seated_mau", "seats"),
    "avg_session_minutes": ("minutes", "up", "ratio", "session_seconds", "session_minutes_below"),
    "revenue": ("currency", "up", "sum", "revenue", None),
    "expected_lifetime": ("periods", "up", "formula", "expected_lifetime", None),
    "ltv_survival": ("currency", "up", "formula", "arpa * margin * expected_lifetime", None),
    "renewal_rate": ("ratio", "up", "ratio", "renewals_won", "renewals_closed"),
    "deals_won": ("count", "up", "sum", "deals_won", None),
    "win_rate": ("ratio", "up", "ratio", "deals_won", "deals_closed"),
    "win_rate_amount": ("ratio", "up", "ratio", "won_amount", "closed_amount"),
    "marketing_cost": ("currency", "down", "sum", "marketing_cost", None),
    "sales_cost": ("currency", "down", "sum", "sales_cost", None),
    "cac": ("currency", "down", "ratio", "acquisition", "new"),
    "cac_payback_months": ("months", "down", "ratio", "acquisition", "new_mrr * margin"),
    "ltv_cac": ("multiple", "up", "formula", "ltv", "cac"),
    "crc": ("currency", "down", "sum", "crc", None),
    "crc_per_customer": ("currency", "down", "ratio", "crc", "closing"),
    "arr_crc": ("multiple", "up", "ratio", "arr", "year_of_crc"),
    "crc_lifetime": ("currency", "down", "formula", "crc_per_customer", "churn"),
    "cs_roi": ("ratio", "up", "formula", "ltv - crc_lifetime", "crc_lifetime"),
    "hours_spent": ("hours", "neutral", "sum", "hours", None),
    "hours_per_account": ("hours", "neutral", "ratio", "cs_seconds", "3600 * closing"),
    "mrr_per_hour": ("currency", "up", "ratio", "3600 * closing_mrr", "cs_seconds"),
    "time_imbalance": ("multiple", "neutral", "formula", "hours / nullif(total_hours, 0)", "closing_mrr / nullif(total_mrr, 0)"),
    "onboarding_completion_rate": ("ratio", "up", "ratio", "onboardings_completed", "onboardings_started"),
    "onboarding_completion_rate_matured": ("ratio", "up", "ratio", "onboardings_due_completed", "onboardings_due"),
    "onboarding_days": ("days", "down", "formula", "onboarding_days", None),
    "onboarded_member_rate": ("ratio", "up", "ratio", "members_onboarded", "members"),
    "features_per_account": ("count", "up", "ratio", "features_used", "active_accounts"),
    "nps": ("points", "up", "ratio", "nps_balance", "nps_respondents"),
    "nps_respondents": ("users", "up", "sum", "nps_respondents", None),
    "csat": ("percent", "up", "ratio", "csat_percent", "csat_answers"),
    "tickets_opened": ("count", "down", "sum", "tickets_opened", None),
    "tickets_per_account": ("count", "down", "ratio", "tickets_opened", "closing"),
    "escalations": ("count", "down", "sum", "tickets_escalated", None),
    "escalation_rate": ("ratio", "down", "ratio", "tickets_escalated", "tickets_opened"),
    "first_response_hours": ("hours", "down", "ratio", "first_response_seconds", "response_below"),
    "resolution_hours": ("hours", "down", "ratio", "resolution_seconds", "resolution_below"),
    "ticket_csat": ("percent", "up", "ratio", "ticket_csat_percent", "ticket_ratings"),
    "community_active_accounts": ("accounts", "up", "sum", "community_active_accounts", None),
    "community_users": ("users", "up", "sum", "community_users", None),
}

# Without these inputs a metric is null, with all that stands beside it.
NEEDS = {metric: needs for needs, metrics in {
    "has_invoices": "usage_mrr ltv_purchase revenue",
    "has_usage": "dau wau mau stickiness active_accounts seat_utilization avg_session_minutes",
    "has_opportunities": "renewal_rate deals_won win_rate win_rate_amount",
    "has_costs": "marketing_cost sales_cost cac cac_payback_months ltv_cac crc crc_per_customer arr_crc crc_lifetime cs_roi",
    "has_time_entries": "hours_spent hours_per_account mrr_per_hour time_imbalance",
    "has_onboardings": "onboarding_completion_rate onboarding_completion_rate_matured onboarding_days",
    "has_member_onboardings": "onboarded_member_rate",
    "has_features": "features_per_account",
    "has_surveys": "nps nps_respondents csat",
    "has_tickets": "tickets_opened tickets_per_account escalations escalation_rate first_response_hours resolution_hours ticket_csat",
    "has_community": "community_active_accounts community_users",
}.items() for metric in metrics.split()}

# Made by a routine: the value stands alone.
ESTIMATED = ("expected_lifetime", "onboarding_days")

PROPORTIONS = ("churn_rate retention_rate upsell_rate cross_sell_rate renewal_rate win_rate onboarding_completion_rate onboarding_completion_rate_matured "
               "onboarded_member_rate csat escalation_rate ticket_csat").split()

BOOTSTRAPPED = ("gross_mrr_churn_rate net_mrr_churn_rate nrr grr nrr_12m grr_12m quick_ratio arpa ltv ltv_tenure ltv_purchase stickiness seat_utilization "
                "win_rate_amount").split()

# What a metric's sample is where it is not the denominator of a proportion.
SAMPLES = {
    **dict.fromkeys("annualized_churn_rate gross_mrr_churn_rate net_mrr_churn_rate nrr grr quick_ratio".split(), "opening"),
    **dict.fromkeys("nrr_12m grr_12m".split(), "paid_12m_ago"),
    **dict.fromkeys("arpa ltv ltv_tenure crc_per_customer".split(), "closing"),
    "ltv_purchase": "purchasing_accounts_12m", "stickiness": "active_accounts", "seat_utilization": "active_accounts", "features_per_account": "active_accounts",
    "win_rate_amount": "deals_closed", "cac": "new", "cac_payback_months": "new", "nps": "nps_respondents",
    "first_response_hours": "tickets_responded", "resolution_hours": "tickets_closed",
    "onboarding_days": "onboarding_sample", "expected_lifetime": "survival_sample",
}


def sums(names, weight):
    """The SELECT list of the sums, weighted."""
    exact = lambda kind, sql: f"sum({weight}({sql}))::DOUBLE" if kind == COUNT else f"money(sum({weight}({sql})))::DOUBLE"
    return ",\n  ".join(f"{exact(*SUMS[name])} AS {name}" for name in names)


def mentioned(text):
    return set(re.findall(r"[a-z_0-9]+", text))


def formulas_of(metrics):
    """The formulas that these metrics need, in order."""
    words = set().union(*(mentioned(f"{n} {d}") for n, d in (METRICS[m][3:] for m in metrics)))
    wanted = []
    for name in reversed(FORMULAS):
        if name in words:
            words |= mentioned(FORMULAS[name])
            wanted.insert(0, name)
    return wanted, words


def sums_of(metrics):
    words = formulas_of(metrics)[1] | {"churned", "opening"}
    return [name for name in SUMS if name in words]


def formulas(metrics):
    return "".join(f", {FORMULAS[name]} AS {name}" for name in formulas_of(metrics)[0])


def where_known(metric, sql):
    return f"CASE WHEN getvariable('{NEEDS[metric]}') THEN ({sql}) END" if metric in NEEDS else f"({sql})"


def structs(metrics):
    """One struct a metric: its id, whether it is a ratio, numerator and denominator."""
    rows = []
    for metric in metrics:
        _, _, _, n, d = METRICS[metric]
        rows.append(f"{{m: '{metric}', r: {str(d is not None).lower()}, n: {where_known(metric, n)}::DOUBLE, d: {where_known(metric, d or 'NULL')}::DOUBLE}}")
    return ",\n    ".join(rows)


def table():
    """VALUES rows: metric, unit, good, is_ratio, is_reaggregable, has_proportion, is_bootstrapped."""
    sql = lambda x: str(x).lower() if isinstance(x, bool) else f"'{x}'"
    rows = ((m, unit, good, d is not None, kind != "formula", m in PROPORTIONS, m in BOOTSTRAPPED) for m, (unit, good, kind, _, d) in METRICS.items())
    return ",\n  ".join("(" + ", ".join(map(sql, row)) + ")" for row in rows)


def samples():
    """The sample of each metric that has one, as structs over the sums."""
    of = {**{m: METRICS[m][4] for m in PROPORTIONS}, **SAMPLES}
    return ",\n    ".join(f"{{m: '{m}', s: {where_known(m, sql)}::BIGINT}}" for m, sql in of.items())
