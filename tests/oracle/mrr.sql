-- mrr.sql: MRR of every account at every period's end, its movements and their causes.

-- Versions paid-live at a period's end: paid_from < E and (open or paid_to >= E). Second rounding: × rate, version by version.
CREATE TABLE live AS
SELECT p.period_idx, v.version_id, v.raw_id, v.plan_id, v.plan_family, v.product, v.tier, v.term_days, v.quantity, v.currency, v.digits,
  v.paid_from, v.contract_local, v.net_local, converted(v.contract_local, v.digits, r.rate_e12) AS contract, converted(v.net_local, v.digits, r.rate_e12) AS mrr,
  r.rate_e12
FROM stg_versions v JOIN periods p ON v.paid_from < p.end_at AND (v.paid_to IS NULL OR v.paid_to >= p.end_at)
LEFT JOIN rates r ON r.period_idx = p.period_idx AND r.currency = v.currency
WHERE v.is_paid_status;

CREATE TABLE trial_live AS
SELECT p.period_idx, v.raw_id, v.currency, r.rate_e12, converted(v.net_local, v.digits, r.rate_e12) AS mrr
FROM stg_versions v JOIN periods p ON v.started_at < p.end_at AND (v.trial_to IS NULL OR v.trial_to >= p.end_at)
LEFT JOIN rates r ON r.period_idx = p.period_idx AND r.currency = v.currency
WHERE v.is_trial_status;

-- A period that needs a rate and has none stops the run.
SELECT CASE WHEN count(*) > 0 THEN error('no rate for ' || min(currency) || ' in period ' || min(period_idx)) END
FROM (SELECT currency, period_idx FROM live WHERE rate_e12 IS NULL UNION ALL SELECT currency, period_idx FROM trial_live WHERE rate_e12 IS NULL);

-- One id's own MRR (before any merge) at a period's end, and the earliest start among the versions that make it.
CREATE TABLE raw_mrr AS
SELECT period_idx, raw_id, sum(mrr)::HUGEINT AS mrr, (min(paid_from) FILTER (mrr > 0))::DATE AS first_from
FROM live GROUP BY ALL HAVING sum(mrr) > 0;

-- First paid period of an account as of E: over everything merged into it as of E, if not after this period.
CREATE TABLE account_paid AS
WITH raw_first AS (SELECT raw_id, min(period_idx) AS first_idx FROM raw_mrr GROUP BY 1),
first_paid AS (
  SELECT m.period_idx, m.account_id, min(f.first_idx) AS first_idx
  FROM account_map m JOIN raw_first f USING (raw_id) WHERE f.first_idx <= m.period_idx GROUP BY ALL)
SELECT f.period_idx, f.account_id, f.first_idx, sum(r.mrr)::HUGEINT AS cohort_mrr, min(r.first_from) AS first_from
FROM first_paid f JOIN account_map m USING (period_idx, account_id) JOIN raw_mrr r ON r.raw_id = m.raw_id AND r.period_idx = f.first_idx
GROUP BY ALL;

-- Account × product at both ends of the period. 1 = closing; 0 = opening revalued at the rates of E; booked = opening at the rates of then.
-- The opening is that of all ids merged into the account as of E.
CREATE TABLE account_product AS
WITH closing AS (
  SELECT l.period_idx, m.account_id, l.product, sum(l.mrr)::HUGEINT AS n1, sum(l.contract)::HUGEINT AS c1, sum(l.quantity)::HUGEINT AS q1,
    max(l.tier) AS tier1, max(l.term_days) AS term1
  FROM live l JOIN account_map m ON m.period_idx = l.period_idx AND m.raw_id = l.raw_id GROUP BY ALL),
opening AS (
  SELECT m.period_idx, m.account_id, l.product, sum(l.mrr)::HUGEINT AS booked,
    sum(converted(l.net_local, l.digits, r.rate_e12))::HUGEINT AS n0, sum(converted(l.contract_local, l.digits, r.rate_e12))::HUGEINT AS c0,
    sum(l.quantity)::HUGEINT AS q0, max(l.tier) AS tier0, max(l.term_days) AS term0
  FROM live l JOIN account_map m ON m.period_idx = l.period_idx + 1 AND m.raw_id = l.raw_id
  JOIN rates r ON r.period_idx = l.period_idx + 1 AND r.currency = l.currency GROUP BY ALL)
SELECT period_idx, account_id, product, c.n1 IS NOT NULL AS is_held_closing, o.n0 IS NOT NULL AS is_held_opening,
  coalesce(n1, 0) AS n1, coalesce(c1, 0) AS c1, q1, tier1, term1,
  coalesce(booked, 0) AS booked, coalesce(n0, 0) AS n0, coalesce(c0, 0) AS c0, q0, tier0, term0
FROM closing c FULL JOIN opening o USING (period_idx, account_id, product);

-- Movement of the account, tested in order: new, churn, reactivation, expansion, contraction, none.
CREATE TABLE account_movement AS
WITH totals AS (
  SELECT period_idx, account_id, sum(booked)::HUGEINT AS opening, sum(n0)::HUGEINT AS revalued, sum(n1)::HUGEINT AS closing, sum(c1)::HUGEINT AS contract
  FROM account_product GROUP BY ALL)
SELECT t.*, p.first_idx,
  CASE WHEN closing > 0 AND coalesce(p.first_idx >= t.period_idx, true) THEN 'new'
    WHEN closing = 0 AND opening > 0 THEN 'churn'
    WHEN closing > 0 AND opening = 0 THEN 'reactivation'
    WHEN closing > 0 AND opening > 0 AND closing > revalued THEN 'expansion'
    WHEN closing > 0 AND opening > 0 AND closing < revalued THEN 'contraction' END AS movement,
  closing > 0 AND opening > 0 AS is_kept
FROM totals t LEFT JOIN account_paid p USING (period_idx, account_id);

-- Churn's cause, by the account's last version among those started before E: greatest effective end (open ends last of all), then
-- greatest started_at, then greatest subscription_id.
CREATE TABLE churn_cause AS
WITH ranked AS (
  SELECT a.period_idx, a.account_id, v.status, v.end_reason,
    row_number() OVER (PARTITION BY a.period_idx, a.account_id
      ORDER BY v.effective_end DESC NULLS FIRST, v.started_at DESC, v.subscription_id DESC) AS rn
  FROM account_movement a JOIN periods p USING (period_idx) JOIN account_map m USING (period_idx, account_id)
  JOIN stg_versions v ON v.raw_id = m.raw_id AND v.started_at < p.end_at
  WHERE a.movement = 'churn')
SELECT period_idx, account_id,
  CASE WHEN status = 'unpaid' OR coalesce(list_contains(getvariable('involuntary_reasons'), end_reason), false) THEN 'involuntary'
    WHEN end_reason IS NOT NULL THEN 'voluntary' ELSE 'unknown' END AS cause
FROM ranked WHERE rn = 1;

-- Causes of closing − revalued opening, product by product, of accounts with both > 0. They sum to it exactly.
CREATE TABLE causes AS
WITH kept AS (
  SELECT x.*, div_round(c0 * (q1 - q0), CASE WHEN q0 > 0 THEN q0 ELSE 1 END) * (CASE WHEN q0 > 0 THEN 1 ELSE 0 END) AS quantity_part
  FROM account_product x JOIN account_movement a USING (period_idx, account_id) WHERE a.is_kept),
parts AS (
  SELECT *, c1 - c0 - quantity_part AS rest,
    CASE WHEN tier1 <> tier0 THEN 'plan' WHEN term1 <> term0 THEN 'term' ELSE 'price' END AS rest_cause
  FROM kept)
SELECT period_idx, account_id, product, 'cross_sell' AS cause, n1 AS mrr FROM parts WHERE NOT is_held_opening
UNION ALL SELECT period_idx, account_id, product, 'product_drop', -n0 FROM parts WHERE NOT is_held_closing
UNION ALL SELECT period_idx, account_id, product, 'discount', -((c1 - n1) - (c0 - n0)) FROM parts WHERE is_held_opening AND is_held_closing
UNION ALL SELECT period_idx, account_id, product, 'quantity', quantity_part FROM parts WHERE is_held_opening AND is_held_closing
UNION ALL SELECT period_idx, account_id, product, rest_cause, rest FROM parts WHERE is_held_opening AND is_held_closing;

-- Movements as signed rows: account × product × movement × cause. An account whose causes cancel to nothing (say one product swapped for
-- another of equal price) has no movement of its own; its causes stand under `expansion`, so that every product foots.
CREATE TABLE movement_rows AS
SELECT period_idx, account_id, product, movement, NULL AS cause, n1 AS mrr
FROM account_product JOIN account_movement USING (period_idx, account_id) WHERE movement IN ('new', 'reactivation')
UNION ALL
SELECT period_idx, account_id, product, 'churn', c.cause, -booked
FROM account_product JOIN account_movement USING (period_idx, account_id) LEFT JOIN churn_cause c USING (period_idx, account_id) WHERE movement = 'churn'
UNION ALL
SELECT period_idx, account_id, product, coalesce(movement, 'expansion'), cause, mrr
FROM causes JOIN account_movement USING (period_idx, account_id)
UNION ALL
SELECT period_idx, account_id, product, 'fx', NULL, n0 - booked
FROM account_product JOIN account_movement USING (period_idx, account_id) WHERE is_kept;
DELETE FROM movement_rows WHERE mrr = 0;

-- MRR columns of account_period, for every row of the spine.
CREATE TABLE account_mrr AS
WITH by_cause AS (
  SELECT period_idx, account_id,
    sum(mrr) FILTER (cause = 'cross_sell') AS cross_sell_mrr, sum(mrr) FILTER (cause = 'product_drop') AS product_drop_mrr,
    sum(mrr) FILTER (cause = 'plan') AS plan_mrr, sum(mrr) FILTER (cause = 'quantity') AS quantity_mrr,
    sum(mrr) FILTER (cause = 'discount') AS discount_change_mrr, sum(mrr) FILTER (cause = 'term') AS term_mrr,
    sum(mrr) FILTER (cause = 'price') AS price_mrr
  FROM causes GROUP BY ALL),
trial AS (SELECT t.period_idx, m.account_id, sum(t.mrr)::HUGEINT AS trial_mrr FROM trial_live t JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL),
year_ago AS (
  SELECT m.period_idx, m.account_id, sum(r.mrr)::HUGEINT AS mrr
  FROM account_map m JOIN raw_mrr r ON r.raw_id = m.raw_id AND r.period_idx = m.period_idx - 12 GROUP BY ALL),
quantities AS (SELECT l.period_idx, m.account_id, sum(l.quantity)::BIGINT AS quantity FROM live l JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL),
-- The plan of the paid-live version with the greatest MRR (ties: smallest plan_id) at closing, else at opening.
plan_ranked AS (
  SELECT m.period_idx, m.account_id, l.plan_id, l.plan_family, l.tier AS plan_tier,
    row_number() OVER (PARTITION BY m.period_idx, m.account_id ORDER BY l.period_idx DESC, l.mrr DESC, l.plan_id ASC NULLS LAST) AS rn
  FROM live l JOIN account_map m ON m.raw_id = l.raw_id AND m.period_idx IN (l.period_idx, l.period_idx + 1))
SELECT s.period_idx, s.account_id, s.cohort_signup,
  f.period_start AS cohort_first_paid, f.period_idx AS first_paid_idx,
  coalesce(a.opening > 0, false)::BIGINT AS opening_customers, coalesce(a.movement = 'new', false)::BIGINT AS new_customers,
  coalesce(a.movement = 'reactivation', false)::BIGINT AS reactivated_customers, coalesce(a.movement = 'churn', false)::BIGINT AS churned_customers,
  coalesce(a.closing > 0, false)::BIGINT AS closing_customers, coalesce(cc.cause = 'involuntary', false)::BIGINT AS involuntary_churned_customers,
  coalesce(a.opening, 0) AS opening_mrr,
  CASE WHEN a.movement = 'new' THEN a.closing ELSE 0 END AS new_mrr,
  CASE WHEN a.movement = 'reactivation' THEN a.closing ELSE 0 END AS reactivation_mrr,
  CASE WHEN a.movement = 'expansion' THEN a.closing - a.revalued ELSE 0 END AS expansion_mrr,
  CASE WHEN a.movement = 'contraction' THEN a.revalued - a.closing ELSE 0 END AS contraction_mrr,
  CASE WHEN a.movement = 'churn' THEN a.opening ELSE 0 END AS churn_mrr,
  CASE WHEN a.is_kept THEN a.revalued - a.opening ELSE 0 END AS fx_mrr,
  coalesce(a.closing, 0) AS closing_mrr,
  coalesce(cross_sell_mrr, 0) AS cross_sell_mrr, coalesce(product_drop_mrr, 0) AS product_drop_mrr, coalesce(plan_mrr, 0) AS plan_mrr,
  coalesce(quantity_mrr, 0) AS quantity_mrr, coalesce(discount_change_mrr, 0) AS discount_change_mrr, coalesce(term_mrr, 0) AS term_mrr,
  coalesce(price_mrr, 0) AS price_mrr,
  coalesce(a.contract, 0) AS contract_mrr, coalesce(a.contract, 0) - coalesce(a.closing, 0) AS discount_mrr, coalesce(t.trial_mrr, 0) AS trial_mrr,
  least(coalesce(a.opening, 0), coalesce(a.closing, 0)) AS retained_mrr,
  coalesce(y.mrr, 0) AS mrr_12m_ago,
  CASE WHEN y.mrr > 0 THEN coalesce(a.closing, 0) ELSE 0 END AS current_mrr_of_12m_ago,
  least(coalesce(y.mrr, 0), coalesce(a.closing, 0)) AS retained_mrr_12m,
  coalesce(ap.cohort_mrr, 0) AS cohort_mrr, least(coalesce(ap.cohort_mrr, 0), coalesce(a.closing, 0)) AS retained_cohort_mrr,
  coalesce(a.movement = 'expansion' AND (plan_mrr > 0 OR quantity_mrr > 0), false)::BIGINT AS upsold_accounts,
  coalesce(cross_sell_mrr > 0, false)::BIGINT AS cross_sold_accounts,
  CASE WHEN a.closing > 0 THEN p.period_end - ap.first_from ELSE 0 END AS tenure_days,
  coalesce(q.quantity, 0) AS paid_quantity, pr.plan_id, pr.plan_family, pr.plan_tier,
  cc.cause AS churn_cause
FROM spine s JOIN periods p USING (period_idx)
LEFT JOIN account_movement a USING (period_idx, account_id) LEFT JOIN account_paid ap USING (period_idx, account_id)
LEFT JOIN periods f ON f.period_idx = ap.first_idx
LEFT JOIN churn_cause cc USING (period_idx, account_id) LEFT JOIN by_cause USING (period_idx, account_id)
LEFT JOIN trial t USING (period_idx, account_id) LEFT JOIN year_ago y USING (period_idx, account_id)
LEFT JOIN quantities q USING (period_idx, account_id)
LEFT JOIN (SELECT * FROM plan_ranked WHERE rn = 1) pr USING (period_idx, account_id);
