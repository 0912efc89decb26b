-- kpi_samples.sql: how many observations a value rests on, of the metrics that say so.
CREATE TABLE kpi_samples AS
WITH samples AS (
  SELECT period_idx, dimension, member, unnest([
    {{samples}}
  ]) AS x FROM kpi_ready)
SELECT period_idx, dimension, member, x.m AS metric, x.s AS sample_size FROM samples;
