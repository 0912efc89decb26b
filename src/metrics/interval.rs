//! How sure one may be of a value: 95 % intervals (docs/definitions.md § 11).

use super::aggregate::{Available, over, part, scalar};
use super::catalogue::{Catalogue, Interval, Metric};
use crate::columns::*;
use crate::config::Unit;
use crate::facts::Context;
use crate::sql::SqlExpr;
use polars::prelude::*;

/// 97.5 % of a normal distribution lie below it.
pub const Z: f64 = 1.959963984540054;

type Bounds = (f64, f64);

/// Wilson's interval of the share `value` of `n` observations, where `whole` is all of them (1, or 100 for percent).
pub fn wilson(value: f64, n: f64, whole: f64) -> Option<Bounds> {
    let share = value / whole;
    let is_share = n > 0.0 && (0.0..=1.0).contains(&share);
    if !is_share {
        return None;
    }
    let centre = share + Z * Z / (2.0 * n);
    let margin = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let bound = |of_one: f64| (of_one / scale).clamp(0.0, 1.0) * whole;
    Some((
        bound(centre - margin).min(value),
        bound(centre + margin).max(value),
    ))
}

/// The interval of a mean of `n` observations, of which `squares` is the sum of squares. Where observations are counted as
/// `whole` (100 for points and percent), the mean lies between −`whole` and `whole`.
pub fn of_mean(value: f64, squares: f64, n: f64, whole: Option<f64>) -> Option<Bounds> {
    if n <= 0.0 {
        return None;
    }
    let scale = whole.unwrap_or(1.0);
    let mean = value / scale;
    let variance = (squares / n - mean * mean).max(0.0);
    let margin = scale * Z * (variance / n).sqrt();
    let limit = whole.unwrap_or(f64::INFINITY);
    Some(((value - margin).max(-limit), (value + margin).min(limit)))
}

/// How many observations a value rests on; null where that says nothing.
pub fn sample_size(metric: &Metric) -> Expr {
    let side = match metric.sample_sql() {
        _ if metric.estimator.is_some() || metric.sample.is_some() => "sample",
        Some(_) => "denominator",
        None => return lit(NULL).cast(DataType::Int64),
    };
    col(part(&metric.id, side)).cast(DataType::Int64)
}

/// Adds `<id>:lower` and `<id>:upper` of every metric that has an interval. `drawn` has those of the bootstrap, if any.
pub fn with_intervals(
    evaluated: LazyFrame,
    drawn: Option<LazyFrame>,
    catalogue: &Catalogue,
    available: &Available,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let key = || [col(PERIOD), col(DIMENSION), col(MEMBER)];
    let mut frame = match drawn {
        Some(drawn) => evaluated.join(drawn, key(), key(), JoinArgs::new(JoinType::Left)),
        None => evaluated,
    };
    let known = frame.collect_schema()?;
    for metric in catalogue.metrics() {
        let is_drawn = known.contains(&part(&metric.id, "lower"));
        let bounds = match &metric.interval {
            _ if is_drawn => None,
            Some(Interval::Through(other)) => Some(through(metric, other, available, context)?),
            _ => bounds(metric),
        };
        if let Some([lower, upper]) = bounds {
            frame = frame.with_columns([
                lower.alias(part(&metric.id, "lower")),
                upper.alias(part(&metric.id, "upper")),
            ]);
        }
    }
    Ok(frame)
}

/// The bounds that a metric's own sides give; null for a bootstrap that nobody drew, none without an interval.
pub(super) fn bounds(metric: &Metric) -> Option<[Expr; 2]> {
    let value = || col(metric.id.as_str());
    let side = |name: &str| col(part(&metric.id, name));
    let whole = matches!(metric.unit, Unit::Percent | Unit::Points).then_some(100.0);
    match metric.interval.as_ref()? {
        Interval::Proportion => Some(both(&[value(), side("denominator")], move |of| {
            wilson(of[0], of[1], whole.unwrap_or(1.0))
        })),
        Interval::Mean => {
            let sides = [value(), side("squares"), side("denominator")];
            Some(both(&sides, move |of| of_mean(of[0], of[1], of[2], whole)))
        }
        Interval::Bootstrap | Interval::Through(_) => {
            let nothing = lit(NULL).cast(DataType::Float64);
            Some([nothing.clone(), nothing])
        }
    }
}

/// The formula at the bounds of another metric, the smaller result first.
fn through(
    metric: &Metric,
    other: &str,
    available: &Available,
    context: Context,
) -> PolarsResult<[Expr; 2]> {
    let side_at = |sql: &SqlExpr, bound: &str| -> PolarsResult<Expr> {
        let bound = col(part(other, bound));
        let replaced = |node: Expr| match &node {
            Expr::Column(name) if name.as_str() == other => bound.clone(),
            _ => node,
        };
        Ok(scalar(sql, metric, available, context, false)?.map_expr(replaced))
    };
    let at = |bound: &str| -> PolarsResult<Expr> {
        let denominator = metric.denominator.as_ref().map(|sql| side_at(sql, bound));
        Ok(over(
            side_at(&metric.numerator, bound)?,
            denominator.transpose()?,
        ))
    };
    Ok(both(&[at("lower")?, at("upper")?], |of| {
        Some((of[0].min(of[1]), of[0].max(of[1])))
    }))
}

/// Lower and upper bound by row; null where one of the inputs is.
fn both(
    inputs: &[Expr],
    interval: impl Fn(&[f64]) -> Option<Bounds> + Copy + Send + Sync + 'static,
) -> [Expr; 2] {
    let bound = |pick: fn(Bounds) -> f64| {
        let computed = move |columns: &mut [Column]| -> PolarsResult<Column> {
            let columns: Vec<Column> = columns
                .iter()
                .map(|column| column.cast(&DataType::Float64))
                .collect::<PolarsResult<_>>()?;
            let sides: Vec<&Float64Chunked> = columns
                .iter()
                .map(|column| column.as_materialized_series().f64())
                .collect::<PolarsResult<_>>()?;
            // A side that is the same everywhere may come as a single value.
            let lengths = || sides.iter().map(|side| side.len());
            let height = match lengths().min() {
                Some(0) | None => 0,
                Some(_) => lengths().max().unwrap_or(0),
            };
            let of_row = |row: usize| {
                let value = |side: &&Float64Chunked| side.get(row.min(side.len() - 1));
                let values: Option<Vec<f64>> = sides.iter().map(value).collect();
                interval(&values?).map(pick)
            };
            let bounds: Vec<Option<f64>> = (0..height).map(of_row).collect();
            Ok(Column::new(columns[0].name().clone(), bounds))
        };
        let output = |_: &Schema, fields: &[Field]| {
            let name = fields.first().map(|field| field.name().clone());
            Ok(Field::new(name.unwrap_or_default(), DataType::Float64))
        };
        inputs[0].clone().map_many(computed, &inputs[1..], output)
    };
    [bound(|(lower, _)| lower), bound(|(_, upper)| upper)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(bounds: Option<Bounds>) -> String {
        bounds.map_or("none".to_owned(), |(lower, upper)| {
            format!("{lower:.4} to {upper:.4}")
        })
    }

    /// Newcombe (1998), "Two-sided confidence intervals for the single proportion", Table I, method 3.
    #[test]
    fn wilson_as_printed() {
        for (share, n, expected) in [
            (81.0, 263.0, "0.2553 to 0.3662"),
            (15.0, 148.0, "0.0624 to 0.1605"),
            (0.0, 20.0, "0.0000 to 0.1611"),
            (1.0, 29.0, "0.0061 to 0.1718"),
        ] {
            assert_eq!(
                printed(wilson(share / n, n, 1.0)),
                expected,
                "{share} of {n}"
            );
        }
    }

    #[test]
    fn all_and_nothing_touch_the_end() {
        for n in [1.0, 3.0, 7.0, 1e6, 1e12] {
            assert_eq!(wilson(0.0, n, 1.0).unwrap().0, 0.0);
            assert_eq!(wilson(1.0, n, 1.0).unwrap().1, 1.0);
            assert_eq!(wilson(100.0, n, 100.0).unwrap().1, 100.0);
        }
    }

    #[test]
    fn what_is_no_share_has_no_interval() {
        assert_eq!(wilson(0.5, 0.0, 1.0), None);
        assert_eq!(wilson(1.5, 10.0, 1.0), None);
        assert_eq!(wilson(f64::NAN, 10.0, 1.0), None);
        assert_eq!(of_mean(10.0, 0.0, 0.0, Some(100.0)), None);
    }

    #[test]
    fn percent_is_the_share_a_hundred_times() {
        let (lower, upper) = wilson(81.0 / 263.0, 263.0, 1.0).unwrap();
        let percent = wilson(100.0 * 81.0 / 263.0, 263.0, 100.0).unwrap();
        assert!((percent.0 - 100.0 * lower).abs() < 1e-12);
        assert!((percent.1 - 100.0 * upper).abs() < 1e-12);
    }

    /// 50 promoters, 30 passives and 20 detractors: 30 ± 1.96 · 100 · √((0.7 − 0.09) / 100).
    #[test]
    fn nps_by_its_variance() {
        let bounds = of_mean(30.0, 70.0, 100.0, Some(100.0));
        assert_eq!(printed(bounds), "14.6922 to 45.3078");
        // Everyone a promoter: nothing varies.
        assert_eq!(of_mean(100.0, 7.0, 7.0, Some(100.0)), Some((100.0, 100.0)));
        // One of each: the scale ends.
        assert_eq!(of_mean(0.0, 2.0, 2.0, Some(100.0)), Some((-100.0, 100.0)));
    }
}
