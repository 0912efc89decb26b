-- revenue.sql: invoice lines → account × period. Each line is converted at the rate of its own period, rounded to the reporting minor unit.

CREATE TABLE lines AS
-- An invoice is one invoice_id of one local day; lines of the same id on another day are another invoice.
SELECT l.* REPLACE (l.invoice_id || '@' || CAST(l.issued_on AS VARCHAR) AS invoice_id), p.period_idx, r.rate_e12,
  div_round(l.amount_e6 * r.rate_e12 * ten_to(getvariable('reporting_digits')), 1000000000000000000::HUGEINT) AS amount
FROM stg_lines l JOIN periods p ON l.issued_on >= p.period_start AND l.issued_on < p.period_end
LEFT JOIN rates r ON r.period_idx = p.period_idx AND r.currency = l.currency;
SELECT CASE WHEN count(*) > 0 THEN error('no rate for ' || min(currency) || ' in period ' || min(period_idx)) END FROM lines WHERE rate_e12 IS NULL;

-- An invoice within one period; its total over a window is the sum of its lines issued in that window.
CREATE TABLE invoice_parts AS
SELECT period_idx, raw_id, invoice_id, sum(amount)::HUGEINT AS amount, max(issued_on) AS issued_on FROM lines GROUP BY ALL;

CREATE TABLE account_revenue AS
WITH reached AS (   -- every part, in every period from its own on, under the account it counts for by then
  SELECT m.period_idx, m.account_id, i.period_idx AS issued_idx, i.invoice_id, i.amount, i.issued_on
  FROM invoice_parts i JOIN account_map m ON m.raw_id = i.raw_id AND m.period_idx >= i.period_idx),
invoices AS (
  SELECT period_idx, account_id, invoice_id, sum(amount)::HUGEINT AS to_date, max(issued_on) AS issued_on,
    coalesce(sum(amount) FILTER (issued_idx = period_idx), 0)::HUGEINT AS of_period,
    coalesce(sum(amount) FILTER (issued_idx > period_idx - 12), 0)::HUGEINT AS of_year
  FROM reached GROUP BY ALL),
sums AS (
  SELECT period_idx, account_id, sum(of_period)::HUGEINT AS revenue, sum(to_date)::HUGEINT AS revenue_to_date, count(*) FILTER (to_date > 0) AS invoices_to_date,
    sum(of_year)::HUGEINT AS revenue_12m, count(*) FILTER (of_year > 0) AS invoices_12m, max(issued_on) FILTER (to_date > 0) AS last_payment
  FROM invoices GROUP BY ALL),
-- Metered usage issued in the period. A period is a month here, so it is monthly as it stands.
metered AS (
  SELECT m.period_idx, m.account_id, sum(l.amount)::HUGEINT AS usage_mrr
  FROM lines l JOIN account_map m USING (period_idx, raw_id) WHERE l.kind = 'usage' GROUP BY ALL)
SELECT s.period_idx, s.account_id,
  CASE WHEN getvariable('has_invoices') THEN coalesce(revenue, 0) END AS revenue,
  CASE WHEN getvariable('has_invoices') THEN coalesce(usage_mrr, 0) END AS usage_mrr,
  CASE WHEN getvariable('has_invoices') THEN coalesce(revenue_to_date, 0) END AS revenue_to_date,
  CASE WHEN getvariable('has_invoices') THEN coalesce(invoices_to_date, 0) END AS invoices_to_date,
  CASE WHEN getvariable('has_invoices') THEN coalesce(revenue_12m, 0) END AS revenue_12m,
  CASE WHEN getvariable('has_invoices') THEN coalesce(invoices_12m, 0) END AS invoices_12m,
  CASE WHEN getvariable('has_invoices') THEN coalesce(invoices_12m > 0, false)::BIGINT END AS purchasing_accounts_12m,
  (p.period_end - 1) - last_payment AS days_since_last_payment,
  -- ltv_to_date = revenue_to_date × gross margin, to the minor unit.
  CASE WHEN getvariable('has_invoices') THEN div_round(coalesce(revenue_to_date, 0) * getvariable('margin_e12'), 1000000000000) END AS ltv_to_date
FROM spine s JOIN periods p USING (period_idx) LEFT JOIN sums USING (period_idx, account_id)
LEFT JOIN metered USING (period_idx, account_id);
