-- survival_out.sql: the published table: what was seen, and what the model (survival.py) says of it and beyond.
CREATE TABLE out_survival AS
SELECT p.period_start, p.period_end, g.dimension, g.member, g.age, k.at_risk, k.churned, k.censored, k.survival, k.lower, k.upper, m.projected AS projected_survival,
  g.age > g.oldest AS is_projected, f.alpha, f.beta, f.expected_lifetime, g.subjects AS sample_size, g.subjects < getvariable('small_sample') AS is_small_sample, p.is_complete
FROM (SELECT period_idx, dimension, member, oldest, subjects, unnest(generate_series(0, ages))::BIGINT AS age FROM survival_groups) g JOIN periods p USING (period_idx)
LEFT JOIN kaplan_meier k USING (period_idx, dimension, member, age) LEFT JOIN survival_fit f USING (period_idx, dimension, member)
LEFT JOIN survival_model m USING (period_idx, dimension, member, age);
