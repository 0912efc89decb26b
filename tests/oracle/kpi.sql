-- kpi.sql: every metric for the total and every dimension member. Sums are exact; each becomes Float64 once, in major units, and the ratio
-- is one division of two Float64. A ratio whose denominator is 0 or null is null; its numerator and denominator are still given.

CREATE TABLE kpi_sums AS
SELECT a.period_idx, m.dimension, m.member, max(a.days)::DOUBLE AS days,
  sum(opening_customers)::DOUBLE AS opening, sum(new_customers)::DOUBLE AS new, sum(reactivated_customers)::DOUBLE AS reactivated,
  sum(churned_customers)::DOUBLE AS churned, sum(involuntary_churned_customers)::DOUBLE AS involuntary, sum(closing_customers)::DOUBLE AS closing,
  money(sum(opening_mrr))::DOUBLE AS opening_mrr, money(sum(new_mrr))::DOUBLE AS new_mrr, money(sum(reactivation_mrr))::DOUBLE AS reactivation_mrr,
  money(sum(expansion_mrr))::DOUBLE AS expansion_mrr, money(sum(contraction_mrr))::DOUBLE AS contraction_mrr, money(sum(churn_mrr))::DOUBLE AS churn_mrr,
  money(sum(fx_mrr))::DOUBLE AS fx_mrr, money(sum(closing_mrr))::DOUBLE AS closing_mrr, money(sum(contract_mrr))::DOUBLE AS contract_mrr,
  money(sum(discount_mrr))::DOUBLE AS discount_mrr, money(sum(trial_mrr))::DOUBLE AS trial_mrr, money(sum(usage_mrr))::DOUBLE AS usage_mrr, money(sum(retained_mrr))::DOUBLE AS retained_mrr,
  -- compound numerators and denominators are summed exactly before they become Float64
  money(12 * sum(closing_mrr))::DOUBLE AS arr,
  money(sum(churn_mrr + contraction_mrr))::DOUBLE AS lost_mrr,
  money(sum(churn_mrr + contraction_mrr - expansion_mrr))::DOUBLE AS net_lost_mrr,
  money(sum(opening_mrr + expansion_mrr - contraction_mrr - churn_mrr
    + CASE WHEN getvariable('nrr_includes_reactivation') THEN reactivation_mrr ELSE 0 END))::DOUBLE AS nrr_mrr,
  money(sum(new_mrr + expansion_mrr + reactivation_mrr))::DOUBLE AS gained_mrr,
  money(sum(mrr_12m_ago))::DOUBLE AS mrr_12m_ago, money(sum(current_mrr_of_12m_ago))::DOUBLE AS current_mrr_of_12m_ago,
  money(sum(retained_mrr_12m))::DOUBLE AS retained_mrr_12m,
  sum(upsold_accounts)::DOUBLE AS upsold, sum(cross_sold_accounts)::DOUBLE AS cross_sold,
  sum(tenure_days)::DOUBLE AS tenure_days, money(sum(revenue))::DOUBLE AS revenue, money(sum(revenue_12m))::DOUBLE AS revenue_12m,
  sum(purchasing_accounts_12m)::DOUBLE AS purchasing, sum(active_user_days)::DOUBLE AS active_user_days, sum(wau)::DOUBLE AS wau, sum(mau)::DOUBLE AS mau,
  sum(active_accounts)::DOUBLE AS active_accounts, sum(seats)::DOUBLE AS seats,
  -- Σ MAU of customers with seats > 0; 0 (not null) when no account of the member is one, null without usage
  CASE WHEN count(mau) > 0 THEN coalesce(sum(mau) FILTER (closing_customers = 1 AND seats > 0), 0) END::DOUBLE AS seated_mau,
  sum(sessions)::DOUBLE AS sessions, sum(session_seconds)::DOUBLE AS session_seconds, bool_and(a.is_complete) AS is_complete
FROM account_periods a JOIN members m USING (period_idx, account_id) GROUP BY a.period_idx, m.dimension, m.member;

-- Monthly churn behind `ltv`: pooled over the trailing ltv_churn_periods, each period with its own members.
CREATE TABLE kpi_churn AS
SELECT k.period_idx, k.dimension, k.member, sum(x.churned) / nullif(sum(x.opening), 0) AS churn
FROM kpi_sums k JOIN kpi_sums x ON x.dimension = k.dimension AND x.member = k.member
  AND x.period_idx BETWEEN k.period_idx - getvariable('ltv_churn_periods') + 1 AND k.period_idx
GROUP BY ALL;

-- What each number is counted in.
CREATE TABLE units AS
SELECT unit, unnest(string_split(metrics, ' ')) AS metric FROM (VALUES
  ('accounts', 'opening_customers new_customers reactivated_customers churned_customers involuntary_churned_customers closing_customers active_accounts'),
  ('currency', 'mrr arr opening_mrr new_mrr reactivation_mrr expansion_mrr contraction_mrr churn_mrr fx_mrr contract_mrr discount_mrr trial_mrr usage_mrr arpa revenue ltv ltv_tenure ltv_purchase'),
  ('ratio', 'churn_rate retention_rate annualized_churn_rate gross_mrr_churn_rate net_mrr_churn_rate nrr grr nrr_12m grr_12m upsell_rate cross_sell_rate stickiness seat_utilization'),
  ('multiple', 'quick_ratio'), ('users', 'dau wau mau'), ('minutes', 'avg_session_minutes')) v(unit, metrics);

CREATE TABLE out_kpi_values AS
WITH ready AS (
  SELECT k.*, c.churn, CASE WHEN getvariable('has_usage') THEN days END AS usage_days, CASE WHEN getvariable('has_usage') THEN seats END AS usage_seats, closing_mrr / nullif(closing, 0) AS arpa, active_user_days / k.days AS dau,
    1 - power(1 - churned / nullif(opening, 0), 12) AS annualized
  FROM kpi_sums k JOIN kpi_churn c USING (period_idx, dimension, member) WHERE k.period_idx IN (SELECT period_idx FROM periods WHERE is_published)),
metrics AS (
  SELECT period_idx, dimension, member, is_complete, unnest([
    -- plain sums: value = numerator, no denominator
    {m: 'opening_customers', r: false, n: opening, d: NULL::DOUBLE}, {m: 'new_customers', r: false, n: new, d: NULL},
    {m: 'reactivated_customers', r: false, n: reactivated, d: NULL}, {m: 'churned_customers', r: false, n: churned, d: NULL},
    {m: 'involuntary_churned_customers', r: false, n: involuntary, d: NULL}, {m: 'closing_customers', r: false, n: closing, d: NULL},
    {m: 'mrr', r: false, n: closing_mrr, d: NULL}, {m: 'arr', r: false, n: arr, d: NULL}, {m: 'opening_mrr', r: false, n: opening_mrr, d: NULL},
    {m: 'new_mrr', r: false, n: new_mrr, d: NULL}, {m: 'reactivation_mrr', r: false, n: reactivation_mrr, d: NULL},
    {m: 'expansion_mrr', r: false, n: expansion_mrr, d: NULL}, {m: 'contraction_mrr', r: false, n: contraction_mrr, d: NULL},
    {m: 'churn_mrr', r: false, n: churn_mrr, d: NULL}, {m: 'fx_mrr', r: false, n: fx_mrr, d: NULL}, {m: 'contract_mrr', r: false, n: contract_mrr, d: NULL},
    {m: 'discount_mrr', r: false, n: discount_mrr, d: NULL}, {m: 'trial_mrr', r: false, n: trial_mrr, d: NULL}, {m: 'usage_mrr', r: false, n: usage_mrr, d: NULL},
    {m: 'wau', r: false, n: wau, d: NULL}, {m: 'mau', r: false, n: mau, d: NULL}, {m: 'active_accounts', r: false, n: active_accounts, d: NULL},
    {m: 'revenue', r: false, n: revenue, d: NULL}, {m: 'annualized_churn_rate', r: false, n: annualized, d: NULL},
    -- ratios
    {m: 'churn_rate', r: true, n: churned, d: opening}, {m: 'retention_rate', r: true, n: closing - new - reactivated, d: opening},
    {m: 'gross_mrr_churn_rate', r: true, n: lost_mrr, d: opening_mrr}, {m: 'net_mrr_churn_rate', r: true, n: net_lost_mrr, d: opening_mrr},
    {m: 'nrr', r: true, n: nrr_mrr, d: opening_mrr}, {m: 'grr', r: true, n: retained_mrr, d: opening_mrr},
    {m: 'nrr_12m', r: true, n: current_mrr_of_12m_ago, d: mrr_12m_ago}, {m: 'grr_12m', r: true, n: retained_mrr_12m, d: mrr_12m_ago},
    {m: 'quick_ratio', r: true, n: gained_mrr, d: lost_mrr}, {m: 'arpa', r: true, n: closing_mrr, d: closing},
    {m: 'upsell_rate', r: true, n: upsold, d: opening}, {m: 'cross_sell_rate', r: true, n: cross_sold, d: opening},
    {m: 'ltv', r: true, n: arpa * getvariable('margin'), d: churn},
    {m: 'ltv_tenure', r: true, n: arpa * tenure_days, d: closing * 30.4375::DOUBLE},
    {m: 'ltv_purchase', r: true, n: revenue_12m * tenure_days, d: purchasing * closing * 365.25::DOUBLE},
    {m: 'dau', r: true, n: active_user_days, d: usage_days}, {m: 'stickiness', r: true, n: dau, d: mau},
    {m: 'seat_utilization', r: true, n: seated_mau, d: usage_seats}, {m: 'avg_session_minutes', r: true, n: session_seconds, d: sessions * 60}
  ]) AS x FROM ready)
SELECT p.period_start, p.period_end, dimension, member, x.m AS metric,
  CASE WHEN x.r THEN x.n / nullif(x.d, 0) ELSE x.n END AS value, x.n AS numerator, x.d AS denominator, u.unit, m.is_complete,
  -- nothing is restated without `close:` in the pipeline
  false AS is_restated
FROM metrics m JOIN periods p USING (period_idx) LEFT JOIN units u ON u.metric = x.m;

CREATE TABLE out_kpi_summary AS
PIVOT (SELECT period_start, period_end, is_complete, metric, value FROM out_kpi_values WHERE dimension = 'total') ON metric USING first(value);
