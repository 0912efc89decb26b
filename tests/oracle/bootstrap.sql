-- bootstrap.sql: the same metrics for every draw. A draw counts an account as often as its bucket's weight says: the three hexadecimal
-- digits that the MD5 of its id begins with, and a Poisson variable of mean 1 that another MD5 makes of bucket and draw.

CREATE TABLE weights AS
WITH buckets AS (SELECT printf('%03x', i) AS bucket FROM range(4096) t(i)),
draws AS (SELECT bucket, j AS draw, md5('cskpi:' || bucket || ':' || (j // 8)) AS digest FROM buckets, range(getvariable('bootstrap_samples')) t(j)),
numbers AS (SELECT bucket, draw, ('0x' || substr(digest, 1 + 4 * (draw % 8)::BIGINT, 4))::INTEGER AS u FROM draws)
SELECT bucket, draw, len(list_filter([24109, 48219, 60273, 64292, 65296, 65497, 65531, 65535], lambda x: x <= u))::HUGEINT AS w FROM numbers;

-- A draw that has no account of a member has only ratios of nothing for it.
CREATE TABLE drawn_sums AS
WITH drawn_periods AS (
  SELECT DISTINCT q.period_idx FROM periods p JOIN periods q ON q.period_idx BETWEEN p.period_idx - getvariable('ltv_churn_periods') + 1 AND p.period_idx WHERE p.is_published)
SELECT a.period_idx, m.dimension, m.member, d.draw, max(a.days)::DOUBLE AS days,
  {{sums}}
FROM account_periods a JOIN drawn_periods USING (period_idx) JOIN members m USING (period_idx, account_id)
JOIN weights d ON d.bucket = substr(md5(a.account_id), 1, 3) AND d.w > 0
GROUP BY a.period_idx, m.dimension, m.member, d.draw;

CREATE TABLE drawn_churn AS
SELECT k.period_idx, k.dimension, k.member, k.draw, sum(x.churned) / nullif(sum(x.opening), 0) AS churn
FROM drawn_sums k JOIN drawn_sums x ON x.dimension = k.dimension AND x.member = k.member AND x.draw = k.draw
  AND x.period_idx BETWEEN k.period_idx - getvariable('ltv_churn_periods') + 1 AND k.period_idx
WHERE k.period_idx IN (SELECT period_idx FROM periods WHERE is_published)
GROUP BY ALL;

-- With m values that are not null, of at least 0.9·B: the ⌈0.025·m⌉-th and the ⌈0.975·m⌉-th smallest.
CREATE TABLE bootstrapped AS
WITH ready AS (
  SELECT k.*, c.churn, getvariable('margin') AS margin{{formulas}} FROM drawn_sums k JOIN drawn_churn c USING (period_idx, dimension, member, draw)),
metrics AS (
  SELECT period_idx, dimension, member, unnest([
    {{metrics}}
  ]) AS x FROM ready),
sorted AS (
  SELECT period_idx, dimension, member, x.m AS metric, list_sort(list(x.n / nullif(x.d, 0)) FILTER (x.n / nullif(x.d, 0) IS NOT NULL)) AS v FROM metrics GROUP BY ALL)
SELECT period_idx, dimension, member, metric, v[(25 * len(v) + 999) // 1000] AS lower, v[(975 * len(v) + 999) // 1000] AS upper
FROM sorted WHERE len(v) > 0 AND 10 * len(v) >= 9 * getvariable('bootstrap_samples');
