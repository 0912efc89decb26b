-- staging.sql: the canonical files, typed. No joins but the lookups that a row needs to be read at all (plan -> family, period -> rate).
-- `raw_<table>` are made by oracle.py: every canonical column, as text, null where the file lacks it. The session's TimeZone is the
-- calendar's, so a bare date (or a time without a zone) becomes that local moment and `…Z` stays UTC; `instant::DATE` is its local date.
--
-- Money is HUGEINT in minor units ("yen", "cent") from here on; never a float. Rates and margins are integers scaled by 10^12, amounts by 10^6.

-- num / den, rounded half away from zero, exactly. den > 0.
CREATE MACRO div_round(num, den) AS
  (CASE WHEN num < 0 THEN -1 ELSE 1 END)::HUGEINT * ((2 * abs(num::HUGEINT) + den::HUGEINT) // (2 * den::HUGEINT));

CREATE MACRO ten_to(n) AS (CASE n WHEN 0 THEN 1 WHEN 1 THEN 10 WHEN 2 THEN 100 WHEN 3 THEN 1000 WHEN 4 THEN 10000 WHEN 6 THEN 1000000 END)::HUGEINT;

CREATE MACRO scaled_e6(x)  AS (x::DECIMAL(24,6)  * 1000000::DECIMAL(7,0))::HUGEINT;
CREATE MACRO scaled_e12(x) AS (x::DECIMAL(24,12) * 1000000000000::DECIMAL(13,0))::HUGEINT;

-- minor units of a currency with `digits` minor digits -> minor units of the reporting currency, at a rate scaled by 10^12.
CREATE MACRO converted(minor, digits, rate_e12) AS
  div_round(minor::HUGEINT * rate_e12::HUGEINT * ten_to(getvariable('reporting_digits')), 1000000000000::HUGEINT * ten_to(digits));

-- ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE stg_accounts AS
SELECT * REPLACE (
    employee_count::BIGINT AS employee_count, is_strategic::BOOLEAN AS is_strategic, seats::BIGINT AS seats,
    signup_date::TIMESTAMPTZ AS signup_date, valid_from::TIMESTAMPTZ AS valid_from, valid_to::TIMESTAMPTZ AS valid_to)
FROM raw_accounts WHERE account_id IS NOT NULL;

CREATE TABLE stg_merges AS
SELECT old_account_id, account_id, coalesce(merged_at::TIMESTAMPTZ, '0001-01-01'::TIMESTAMPTZ) AS merged_at
FROM raw_account_merges WHERE old_account_id IS NOT NULL AND account_id IS NOT NULL AND old_account_id <> account_id;

CREATE TABLE stg_plans AS SELECT plan_id, family, tier::BIGINT AS tier FROM raw_plans;

-- ── subscription versions ────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE stg_versions AS
WITH typed AS (
  SELECT row_number() OVER (ORDER BY subscription_id, started_at) AS version_id, subscription_id, account_id AS raw_id, plan_id,
    started_at::TIMESTAMPTZ AS started_at, ended_at::TIMESTAMPTZ AS ended_at, trial_end::TIMESTAMPTZ AS trial_end,
    cancel_requested_at::TIMESTAMPTZ AS cancel_requested_at,
    coalesce(quantity::DECIMAL(18,0)::BIGINT, 1) AS quantity,
    amount, "interval" AS interval_name, coalesce(interval_count::BIGINT, 1) AS n, discount, coalesce(discount_kind, 'recurring') AS discount_kind,
    coalesce(currency, getvariable('currency')) AS currency, coalesce(status, 'active') AS status, end_reason, mrr
  FROM raw_subscriptions WHERE account_id IS NOT NULL AND started_at IS NOT NULL),
ended AS (
  SELECT *,
    -- Effective end: ended_at; with churn_at = cancel_request the earlier of cancel_requested_at and ended_at (least() skips nulls).
    CASE getvariable('churn_at') WHEN 'cancel_request' THEN least(cancel_requested_at, ended_at) ELSE ended_at END AS effective_end,
    -- Line amount of one billing interval, ×10^6.
    scaled_e6(coalesce(amount, '0')) * CASE getvariable('amount') WHEN 'unit' THEN quantity ELSE 1 END AS line_e6,
    -- Normalisation to a month: factor = num / den.
    CASE coalesce(interval_name, 'month') WHEN 'week' THEN 52 WHEN 'day' THEN 365
      WHEN 'month' THEN 1 WHEN 'quarter' THEN 1 WHEN 'year' THEN 1 ELSE error('unknown interval ' || interval_name) END::HUGEINT AS factor_num,
    (CASE coalesce(interval_name, 'month') WHEN 'month' THEN 1 WHEN 'quarter' THEN 3 ELSE 12 END * n)::HUGEINT AS factor_den,
    -- Interval length, only to see whether the billing term changed. A ready mrr without an interval has none.
    CASE WHEN mrr IS NOT NULL AND interval_name IS NULL THEN NULL ELSE
      n * CASE coalesce(interval_name, 'month') WHEN 'day' THEN 1 WHEN 'week' THEN 7 WHEN 'month' THEN 30 WHEN 'quarter' THEN 90 WHEN 'year' THEN 365 END END AS term_days,
    CASE WHEN getvariable('discounts') = 'all' OR (getvariable('discounts') = 'recurring' AND discount_kind LIKE 'recurring%') THEN coalesce(discount, '0') ELSE '0' END AS taken_off
  FROM typed),
priced AS (
  SELECT *,
    -- Discount of one billing interval, ×10^14: money, or percent of the line amount (line×10^6 · percent×10^6 / 100 = ×10^14).
    CASE WHEN discount_kind LIKE '%_percent' THEN line_e6 * scaled_e6(taken_off)
      ELSE scaled_e6(taken_off) * 100000000::HUGEINT END AS discount_e14
  FROM ended)
SELECT v.version_id, v.subscription_id, v.raw_id, v.plan_id,
  -- Product: plans.family; one product `(all)` without a plans table; `(unknown)` for a plan that the table lacks.
  CASE WHEN getvariable('has_plans') THEN coalesce(p.family, '(unknown)') ELSE '(all)' END AS product,
  p.family AS plan_family, p.tier, v.started_at, v.effective_end, v.status, v.end_reason, v.currency, v.quantity, v.term_days,
  coalesce(d.digits, 2) AS digits,
  -- First rounding: to the minor unit of the subscription's own currency.
  CASE WHEN v.mrr IS NOT NULL THEN div_round(scaled_e6(v.mrr) * ten_to(coalesce(d.digits, 2)), 1000000)
    ELSE div_round(line_e6 * 100000000::HUGEINT * factor_num * ten_to(coalesce(d.digits, 2)), 100000000000000::HUGEINT * factor_den) END AS contract_local,
  CASE WHEN v.mrr IS NOT NULL THEN div_round(scaled_e6(v.mrr) * ten_to(coalesce(d.digits, 2)), 1000000)
    -- A discount never takes a line below zero.
    ELSE div_round(greatest(line_e6 * 100000000::HUGEINT - discount_e14, 0::HUGEINT) * factor_num * ten_to(coalesce(d.digits, 2)), 100000000000000::HUGEINT * factor_den) END AS net_local,
  -- Paid interval [paid_from, paid_to): from the later of start and trial end, to the effective end; past_due for its days of grace only.
  v.status IN ('active', 'past_due') AS is_paid_status,
  greatest(v.started_at, v.trial_end) AS paid_from,
  CASE WHEN v.status = 'past_due' AND getvariable('past_due_grace_days') IS NOT NULL
    THEN least(v.effective_end, v.started_at + to_hours(24 * getvariable('past_due_grace_days'))) ELSE v.effective_end END AS paid_to,
  -- Trial interval [started_at, trial_to).
  v.status = 'trialing' OR (v.status IN ('active', 'past_due') AND v.trial_end IS NOT NULL) AS is_trial_status,
  CASE WHEN v.status = 'trialing' THEN v.effective_end ELSE least(v.trial_end, v.effective_end) END AS trial_to
FROM priced v LEFT JOIN stg_plans p ON p.plan_id = v.plan_id LEFT JOIN minor_digits d ON d.currency = v.currency;

-- ── invoices, usage, rates ───────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE stg_lines AS
SELECT account_id AS raw_id, invoice_id, issued_at::TIMESTAMPTZ AS issued_at, (issued_at::TIMESTAMPTZ)::DATE AS issued_on,
  scaled_e6(amount) AS amount_e6, kind, coalesce(currency, getvariable('currency')) AS currency
FROM raw_invoice_lines WHERE account_id IS NOT NULL AND issued_at IS NOT NULL;

CREATE TABLE stg_events AS
SELECT account_id AS raw_id, user_id, instant AS occurred_at, instant::DATE AS day, feature, session_id, seconds::BIGINT AS seconds
FROM (SELECT *, occurred_at::TIMESTAMPTZ AS instant FROM raw_usage_events) WHERE account_id IS NOT NULL AND instant IS NOT NULL;

CREATE TABLE stg_sessions AS
SELECT account_id AS raw_id, user_id, instant AS started_at, instant::DATE AS day, ended_at::TIMESTAMPTZ AS ended_at
FROM (SELECT *, started_at::TIMESTAMPTZ AS instant FROM raw_usage_sessions) WHERE account_id IS NOT NULL AND instant IS NOT NULL;

CREATE TABLE stg_rates AS
SELECT currency, date::TIMESTAMPTZ AS dated, scaled_e12(rate) AS rate_e12 FROM raw_fx_rates WHERE rate IS NOT NULL;
