-- opportunity.sql: what was won and lost, by account and period, and who had an offer.

CREATE TABLE closed_opportunities AS
SELECT p.period_idx, o.raw_id, o.kind, o.is_won, r.rate_e12, o.currency,
  div_round(o.amount_e6 * r.rate_e12 * ten_to(getvariable('reporting_digits')), 1000000000000000000::HUGEINT) AS amount
FROM stg_opportunities o JOIN periods p ON o.closed_at >= p.start_at AND o.closed_at < p.end_at
LEFT JOIN rates r ON r.period_idx = p.period_idx AND r.currency = o.currency;
SELECT CASE WHEN count(*) > 0 THEN error('no rate for ' || min(currency) || ' in period ' || min(period_idx)) END FROM closed_opportunities WHERE rate_e12 IS NULL;

-- Open at some instant of the period: created before its end, and not closed before its start. What belongs to no account is nobody's target.
CREATE TABLE offered AS
SELECT p.period_idx, m.account_id, bool_or(o.kind = 'upsell') AS is_upsell, bool_or(o.kind = 'cross_sell') AS is_cross_sell
FROM stg_opportunities o JOIN periods p ON o.created_at < p.end_at AND (o.closed_at IS NULL OR o.closed_at >= p.start_at)
JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = o.raw_id
WHERE o.raw_id <> '(unallocated)' GROUP BY ALL;

CREATE TABLE account_deals AS
WITH sums AS (
  SELECT m.period_idx, m.account_id,
    count(*) FILTER (kind <> 'renewal' AND is_won) AS deals_won, count(*) FILTER (kind <> 'renewal' AND NOT is_won) AS deals_lost,
    (sum(amount) FILTER (kind <> 'renewal' AND is_won))::HUGEINT AS won_amount, (sum(amount) FILTER (kind <> 'renewal' AND NOT is_won))::HUGEINT AS lost_amount,
    count(*) FILTER (kind = 'renewal' AND is_won) AS renewals_won, count(*) FILTER (kind = 'renewal' AND NOT is_won) AS renewals_lost
  FROM closed_opportunities o JOIN account_map m USING (period_idx, raw_id) GROUP BY ALL),
target AS (
  SELECT s.period_idx, s.account_id, a.upsold_accounts, a.cross_sold_accounts,
    CASE WHEN getvariable('upsell_base') = 'opening' THEN a.opening_customers ELSE coalesce(o.is_upsell, false)::BIGINT END AS upsell,
    CASE WHEN getvariable('upsell_base') = 'opening' THEN a.opening_customers ELSE coalesce(o.is_cross_sell, false)::BIGINT END AS cross_sell
  FROM spine s JOIN account_mrr a USING (period_idx, account_id) LEFT JOIN offered o USING (period_idx, account_id))
SELECT t.period_idx, t.account_id,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(deals_won, 0) END AS deals_won,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(deals_lost, 0) END AS deals_lost,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(won_amount, 0) END AS won_amount,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(lost_amount, 0) END AS lost_amount,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(renewals_won, 0) END AS renewals_won,
  CASE WHEN getvariable('has_opportunities') THEN coalesce(renewals_lost, 0) END AS renewals_lost,
  upsell AS upsell_target_accounts, cross_sell AS cross_sell_target_accounts,
  CASE WHEN upsell = 1 THEN upsold_accounts WHEN upsell = 0 THEN 0 END AS upsold_target_accounts,
  CASE WHEN cross_sell = 1 THEN cross_sold_accounts WHEN cross_sell = 0 THEN 0 END AS cross_sold_target_accounts
FROM target t LEFT JOIN sums USING (period_idx, account_id);
