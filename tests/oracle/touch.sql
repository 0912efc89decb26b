-- touch.sql: the published touch model with its hold, and the account_period table with everything in it.

-- Every customer from `begin` on, with what the rules say now. Consecutive customer periods of an account form one streak.
CREATE TABLE touch_now AS
SELECT b.period_idx, b.account_id, b.owner_id, b.ltv_expected, b.ltv_percentile, r.rule, r.rule_model,
  b.period_idx - row_number() OVER (PARTITION BY b.account_id ORDER BY b.period_idx) AS streak
FROM with_ltv b LEFT JOIN touch_raw r USING (period_idx, account_id)
WHERE b.closing_customers = 1 AND b.period_idx >= getvariable('begin_idx');

-- Published = the raw value of the most recent run of at least h+1 equal raw values within the last 4·(h+1)+1 periods of the streak;
-- if there is none, the raw value of the oldest of those periods.
CREATE TABLE touch_published AS
WITH seen AS (
  SELECT now.period_idx, now.account_id, past.period_idx AS past_idx, past.rule_model
  FROM touch_now now JOIN touch_now past ON past.account_id = now.account_id AND past.streak = now.streak
    AND past.period_idx BETWEEN now.period_idx - 4 * (getvariable('hold_periods') + 1) AND now.period_idx),
numbered AS (
  SELECT *, past_idx - row_number() OVER (PARTITION BY period_idx, account_id, rule_model ORDER BY past_idx) AS run FROM seen),
runs AS (SELECT period_idx, account_id, rule_model, run, count(*) AS length, max(past_idx) AS last_idx, min(past_idx) AS first_idx FROM numbered GROUP BY ALL),
picked AS (
  SELECT period_idx, account_id,
    (list(rule_model ORDER BY last_idx DESC) FILTER (length >= getvariable('hold_periods') + 1)) AS long_runs,
    list(rule_model ORDER BY first_idx) AS all_runs
  FROM runs GROUP BY ALL)
SELECT n.*, CASE WHEN len(long_runs) > 0 THEN long_runs[1] ELSE all_runs[1] END AS touch_model
FROM touch_now n JOIN picked USING (period_idx, account_id);

CREATE TABLE out_touch_segments AS
SELECT p.period_start, p.period_end, t.account_id, t.touch_model, t.rule, t.rule_model, b.touch_model AS previous_touch_model,
  b.touch_model IS NOT NULL AND b.touch_model IS DISTINCT FROM t.touch_model AS is_changed,
  t.touch_model IS DISTINCT FROM t.rule_model AS is_held, t.owner_id,
  CASE WHEN o.owners IS NOT NULL THEN coalesce(list_contains(o.owners, t.owner_id), false) END AS owner_fits,
  money(t.ltv_expected) AS ltv_expected, t.ltv_percentile, p.is_complete
FROM touch_published t JOIN periods p USING (period_idx)
LEFT JOIN touch_published b ON b.account_id = t.account_id AND b.period_idx = t.period_idx - 1
LEFT JOIN touch_owners o ON o.touch_model = t.touch_model
WHERE p.is_published;

-- The column touch_model of account_period: this period's; who has none keeps the previous period's for one period; else null.
CREATE TABLE account_periods AS
SELECT w.* EXCLUDE (touch_model), CASE WHEN t.account_id IS NOT NULL THEN t.touch_model ELSE b.touch_model END AS touch_model
FROM with_ltv w LEFT JOIN touch_published t USING (period_idx, account_id)
LEFT JOIN touch_published b ON b.account_id = w.account_id AND b.period_idx = w.period_idx - 1;

-- Dimension members, one row per account, period and dimension. The query is a UNION ALL made from the params:
-- the value as text, null as `(unknown)`; accounts without a cohort are left out of the two cohort dimensions.
-- In a dimension `seats` is the account's own column, not the fact, and money is in major units.
CREATE VIEW dimension_input AS SELECT * REPLACE (own_seats AS seats, {{money_in_dimensions}}) FROM account_periods;
CREATE TABLE dimension_wide AS SELECT period_idx, account_id, cohort_first_paid, cohort_signup, {{dimension_columns}} FROM ({{dimension_input}});
CREATE TABLE members AS {{dimension_members}};

CREATE TABLE out_account_period AS
SELECT a.period_start, a.period_end, a.account_id, a.account_name, a.owner_id, a.is_strategic, {{published_dimensions}}
  a.cohort_first_paid, a.cohort_signup, a.is_complete,
  a.opening_customers, a.new_customers, a.reactivated_customers, a.churned_customers, a.closing_customers, a.involuntary_churned_customers,
  {{money_columns}},
  a.upsold_accounts, a.cross_sold_accounts, a.seats, a.tenure_days,
  a.invoices_to_date, a.invoices_12m, a.purchasing_accounts_12m, a.days_since_last_payment,
  a.events, a.sessions, a.session_seconds, a.active_days, a.active_user_days, a.wau, a.mau, a.active_accounts, a.days_since_last_use,
  a.ltv_percentile,
  a.deals_won, a.deals_lost, a.renewals_won, a.renewals_lost, a.upsell_target_accounts, a.upsold_target_accounts, a.cross_sell_target_accounts, a.cross_sold_target_accounts,
  a.members, a.members_onboarded, a.onboardings_started, a.onboardings_completed, a.onboardings_open, a.onboardings_due, a.onboardings_due_completed,
  a.nps_respondents, a.nps_promoters, a.nps_detractors, a.csat_answers, a.csat_satisfied,
  a.tickets_opened, a.tickets_escalated, a.tickets_responded, a.first_response_seconds, a.tickets_closed, a.resolution_seconds, a.ticket_ratings, a.ticket_ratings_satisfied,
  a.community_activities, a.community_users, a.community_active_accounts, a.cs_seconds, a.features_used
FROM account_periods a JOIN dimension_wide d USING (period_idx, account_id) JOIN periods p USING (period_idx) WHERE p.is_published;
