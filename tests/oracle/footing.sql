-- footing.sql: opening + movements = closing, to the minor unit, at every account, product, member and in total. Each query must be empty.
SELECT 'account' AS level, period_idx::VARCHAR AS p, account_id AS key, NULL AS product FROM account_mrr
WHERE opening_mrr + new_mrr + reactivation_mrr + expansion_mrr - contraction_mrr - churn_mrr + fx_mrr <> closing_mrr
UNION ALL
SELECT 'causes', period_idx::VARCHAR, account_id, NULL FROM account_mrr
WHERE cross_sell_mrr + product_drop_mrr + plan_mrr + quantity_mrr + discount_change_mrr + term_mrr + price_mrr <> expansion_mrr - contraction_mrr
UNION ALL
SELECT 'customers', period_idx::VARCHAR, account_id, NULL FROM account_mrr
WHERE opening_customers + new_customers + reactivated_customers - churned_customers <> closing_customers
UNION ALL
SELECT 'account × product', x.period_idx::VARCHAR, x.account_id, x.product
FROM account_product x LEFT JOIN (SELECT period_idx, account_id, product, sum(mrr) AS mrr FROM movement_rows GROUP BY ALL) r USING (period_idx, account_id, product)
WHERE x.booked + coalesce(r.mrr, 0) <> x.n1
UNION ALL
SELECT 'member × product', period_start::VARCHAR, dimension || '=' || member, product FROM out_mrr_movements
GROUP BY period_start, dimension, member, product HAVING sum(mrr) FILTER (movement <> 'closing') <> coalesce(sum(mrr) FILTER (movement = 'closing'), 0)
  OR (sum(mrr) FILTER (movement <> 'closing') IS NULL)
UNION ALL
SELECT 'opening = previous closing', a.period_start::VARCHAR, a.dimension || '=' || a.member, a.product
FROM (SELECT * FROM out_mrr_movements WHERE movement = 'opening') a
JOIN (SELECT DISTINCT period_end FROM out_mrr_movements) e ON e.period_end = a.period_start
LEFT JOIN (SELECT * FROM out_mrr_movements WHERE movement = 'closing') c
  ON c.period_end = a.period_start AND c.dimension = a.dimension AND c.member = a.member AND c.product = a.product
WHERE a.mrr IS DISTINCT FROM c.mrr
UNION ALL
SELECT 'closing = account_period', m.period_start::VARCHAR, m.dimension || '=' || m.member, NULL
FROM (SELECT period_start, dimension, member, sum(mrr) AS mrr FROM out_mrr_movements WHERE movement = 'closing' GROUP BY ALL) m
JOIN (SELECT period_start, dimension, member, value FROM out_kpi_values WHERE metric = 'mrr') k USING (period_start, dimension, member)
WHERE m.mrr::DOUBLE <> k.value;
