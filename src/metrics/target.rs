//! Targets and how far they are met, and what a KPI explains of the gap of the KGI that it serves (docs/definitions.md § 12).

use super::catalogue::Catalogue;
use crate::columns::*;
use crate::config::Direction;
use crate::period::PeriodRange;
use crate::sql::quotient;
use polars::prelude::*;

/// Whether up is good (1) or down (−1).
const SIGN: &str = "sign";

/// One row per target of a period of `published`. `targets` has [`PERIOD`], `dimension` and `member` in every row.
pub fn kpi_attainment(
    evaluated: LazyFrame,
    targets: LazyFrame,
    catalogue: &Catalogue,
    at_risk_within: f64,
    published: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let in_range = col(PERIOD).is_between(
        lit(published.first),
        lit(published.last),
        ClosedInterval::Both,
    );
    let targets = targets.filter(in_range).select([
        col(PERIOD),
        col(DIMENSION),
        col(MEMBER),
        col("metric"),
        col("value").alias("target"),
        col("serves"),
    ]);
    let values = values(evaluated, targets.clone(), catalogue)?;
    let key = || [PERIOD, DIMENSION, MEMBER, "metric"].map(col);
    let left = JoinArgs::new(JoinType::Left);
    let attained = targets.join(values, key(), key(), left.clone()).left_join(
        signs(catalogue)?,
        col("metric"),
        col("metric"),
    );
    let attained = with_attainment(attained, at_risk_within);

    let served = attained.clone().select([
        col(PERIOD),
        col(DIMENSION),
        col(MEMBER),
        col("metric").alias("serves"),
        col("gap").alias("kgi_gap"),
        col("attainment").alias("kgi_attainment"),
        col(SIGN).alias("kgi_sign"),
    ]);
    let group = || [PERIOD, DIMENSION, MEMBER, "serves"].map(col);
    Ok(with_share(attained.join(served, group(), group(), left)))
}

/// Values of all published metrics, of the groups that have a target.
fn values(
    evaluated: LazyFrame,
    targets: LazyFrame,
    catalogue: &Catalogue,
) -> PolarsResult<LazyFrame> {
    let group = || [PERIOD, DIMENSION, MEMBER].map(col);
    let aimed = evaluated.join(targets, group(), group(), JoinArgs::new(JoinType::Semi));
    let of_metric = catalogue.published_ids().iter().map(|id| {
        let own = [lit(id.as_str()).alias("metric"), col(id).alias("value")];
        aimed.clone().select([&group()[..], &own].concat())
    });
    concat(of_metric.collect::<Vec<_>>(), UnionArgs::default())
}

fn signs(catalogue: &Catalogue) -> PolarsResult<LazyFrame> {
    let sign = |good| if good == Direction::Down { -1.0 } else { 1.0 };
    let (ids, signs): (Vec<&str>, Vec<f64>) = catalogue
        .published()
        .map(|metric| (metric.id.as_str(), sign(metric.good)))
        .unzip();
    Ok(df!("metric" => ids, SIGN => signs)?.lazy())
}

fn with_attainment(targets: LazyFrame, at_risk_within: f64) -> LazyFrame {
    let (value, target) = (|| col("value"), || col("target"));
    let is_zero = || target().eq(lit(0.0));
    let finite = |number: Expr| {
        when(number.clone().is_finite())
            .then(number)
            .otherwise(lit(NULL))
    };
    // How much is lacking, in the direction that is good; below zero where there is more than enough.
    let lacking = || (target() - value()) * col(SIGN);
    let is_met = || lacking().lt_eq(lit(0.0));
    let of_zero = when(is_met()).then(lit(0.0)).otherwise(lit(1.0));
    let shortfall = when(value().is_null())
        .then(lit(NULL))
        .when(is_zero())
        .then(of_zero)
        .otherwise(finite(quotient(lacking(), target().abs())));
    let attainment = when(is_zero())
        .then(lit(NULL))
        .otherwise(finite(quotient(value(), target())));
    let status = when(target().is_null())
        .then(lit("no_target"))
        .when(value().is_null())
        .then(lit("no_value"))
        .when(is_met())
        .then(lit("on_track"))
        .when(col("shortfall").lt_eq(lit(at_risk_within)))
        .then(lit("at_risk"))
        .otherwise(lit("missed"));
    targets
        .with_columns([
            attainment.alias("attainment"),
            (value() - target()).alias("gap"),
            shortfall.alias("shortfall"),
        ])
        .with_column(status.alias("status"))
}

/// As if the KGI were the product of the KPIs that serve it, so that the logarithms of their attainments add up to its own.
fn with_share(attained: LazyFrame) -> LazyFrame {
    let log = |name: &str| {
        let is_positive = col(name).gt(lit(0.0));
        when(is_positive)
            .then(col(name).log(lit(std::f64::consts::E)))
            .otherwise(lit(NULL))
    };
    let is_off = col("kgi_log").neq(lit(0.0));
    // A KPI that is good when it goes down divides where the others multiply.
    let sign = col(SIGN) * col("kgi_sign");
    let share = when(is_off)
        .then(sign * quotient(col("log"), col("kgi_log")))
        .otherwise(lit(NULL));
    attained
        .with_columns([
            log("attainment").alias("log"),
            log("kgi_attainment").alias("kgi_log"),
        ])
        .with_column(share.alias("kgi_share_explained"))
        .with_column((col("kgi_share_explained") * col("kgi_gap")).alias("kgi_gap_explained"))
}
