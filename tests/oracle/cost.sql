-- cost.sql: time and costs, put onto accounts to the minor unit. What nobody can take stays with `(unallocated)`.

CREATE TABLE time_entries AS
SELECT p.period_idx, m.account_id, t.phase, t.seconds
FROM stg_time t JOIN periods p ON t.dated >= p.start_at AND t.dated < p.end_at JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = t.raw_id;

CREATE TABLE account_time AS SELECT period_idx, account_id, sum(seconds)::HUGEINT AS cs_seconds FROM time_entries GROUP BY ALL;

CREATE TABLE cost_entries AS
SELECT p.period_idx, m.account_id, c.kind, c.channel, c.currency, r.rate_e12,
  div_round(c.amount_e6 * r.rate_e12 * ten_to(getvariable('reporting_digits')), 1000000000000000000::HUGEINT) AS amount
FROM stg_costs c JOIN periods p ON c.dated >= p.start_at AND c.dated < p.end_at JOIN account_map m ON m.period_idx = p.period_idx AND m.raw_id = c.raw_id
LEFT JOIN rates r ON r.period_idx = p.period_idx AND r.currency = c.currency;
SELECT CASE WHEN count(*) > 0 THEN error('no rate for ' || min(currency) || ' in period ' || min(period_idx)) END FROM cost_entries WHERE rate_e12 IS NULL;

-- Pools: acquisition cost by kind and channel (`#` is all channels), retention cost by kind.
CREATE TABLE pools AS
SELECT period_idx, kind, CASE WHEN kind IN ('marketing', 'sales') THEN coalesce('channel ' || channel, '#') ELSE '#' END AS pool, sum(amount)::HUGEINT AS amount
FROM cost_entries WHERE account_id = '(unallocated)' GROUP BY ALL;

-- Who takes of a pool, and by what weight.
CREATE TABLE takers AS
WITH has_time AS (SELECT period_idx FROM account_time WHERE cs_seconds > 0 GROUP BY 1)
SELECT o.period_idx, o.kind, o.pool, a.account_id, 1::HUGEINT AS weight
FROM pools o JOIN account_mrr a USING (period_idx) LEFT JOIN account_attributes t USING (period_idx, account_id)
WHERE o.kind IN ('marketing', 'sales') AND a.new_customers = 1 AND (o.pool = '#' OR o.pool = 'channel ' || t.channel)
UNION ALL
SELECT o.period_idx, o.kind, o.pool, t.account_id, t.cs_seconds
FROM pools o JOIN account_time t USING (period_idx) WHERE o.kind IN ('cs_people', 'cs_tools') AND t.cs_seconds > 0
UNION ALL
SELECT o.period_idx, o.kind, o.pool, a.account_id, CASE getvariable('crc_allocation') WHEN 'mrr' THEN a.closing_mrr ELSE 1 END::HUGEINT
FROM pools o JOIN account_mrr a USING (period_idx) ANTI JOIN has_time h USING (period_idx)
WHERE o.kind IN ('cs_people', 'cs_tools') AND a.closing_customers = 1;

-- Largest remainder; a negative pool as its opposite.
CREATE TABLE allocated AS
WITH parts AS (
  SELECT o.*, t.account_id, abs(o.amount) * t.weight // sum(t.weight) OVER pool AS share, abs(o.amount) * t.weight % sum(t.weight) OVER pool AS remainder
  FROM pools o JOIN takers t USING (period_idx, kind, pool) WINDOW pool AS (PARTITION BY o.period_idx, o.kind, o.pool)),
ranked AS (
  SELECT *, abs(amount) - sum(share) OVER (PARTITION BY period_idx, kind, pool) AS left_over,
    row_number() OVER (PARTITION BY period_idx, kind, pool ORDER BY remainder DESC, account_id) AS place FROM parts)
SELECT period_idx, kind, pool, account_id, (sign(amount) * (share + CASE WHEN place <= left_over THEN 1 ELSE 0 END))::HUGEINT AS amount FROM ranked
UNION ALL
SELECT period_idx, kind, pool, '(unallocated)', amount FROM pools ANTI JOIN takers USING (period_idx, kind, pool);

CREATE TABLE account_cost AS
WITH rows_of_cost AS (
  SELECT period_idx, account_id, kind, amount FROM cost_entries WHERE account_id <> '(unallocated)'
  UNION ALL SELECT period_idx, account_id, kind, amount FROM allocated),
sums AS (
  SELECT period_idx, account_id, (sum(amount) FILTER (kind = 'marketing'))::HUGEINT AS marketing, (sum(amount) FILTER (kind = 'sales'))::HUGEINT AS sales,
    (sum(amount) FILTER (kind = 'cs_people'))::HUGEINT AS cs_people, (sum(amount) FILTER (kind = 'cs_tools'))::HUGEINT AS cs_tools
  FROM rows_of_cost GROUP BY ALL)
SELECT s.period_idx, s.account_id,
  CASE WHEN getvariable('has_costs') THEN coalesce(marketing, 0) END AS marketing_cost,
  CASE WHEN getvariable('has_costs') THEN coalesce(sales, 0) END AS sales_cost,
  CASE WHEN getvariable('has_costs') THEN coalesce(cs_people, 0) END AS cs_people_cost,
  CASE WHEN getvariable('has_costs') THEN coalesce(cs_tools, 0) END AS cs_tools_cost,
  CASE WHEN getvariable('has_time_entries') THEN coalesce(cs_seconds, 0)::BIGINT END AS cs_seconds
FROM spine s LEFT JOIN sums USING (period_idx, account_id) LEFT JOIN account_time USING (period_idx, account_id);

-- Periods in which something belongs to no account: an open prospect, time of no hours and costs that cancel out do not.
CREATE TABLE unallocated_periods AS
SELECT period_idx FROM closed_opportunities WHERE raw_id = '(unallocated)'
UNION SELECT period_idx FROM account_cost WHERE account_id = '(unallocated)' AND (marketing_cost <> 0 OR sales_cost <> 0 OR cs_people_cost <> 0 OR cs_tools_cost <> 0 OR cs_seconds > 0);
