//! Division whose result does not depend on how many rows there are.

use polars::prelude::*;

/// Numerator over denominator in floats, each quotient rounded once.
///
/// polars' own `/` multiplies by the reciprocal where it takes the divisor for a constant: a literal, or a column with the
/// same value in every row. That rounds twice, and a period by itself would differ in its last bit from the same period in
/// a longer range.
pub fn quotient(numerator: Expr, denominator: Expr) -> Expr {
    let float = |side: Expr| side.cast(DataType::Float64);
    let output = |_: &Schema, fields: &[Field]| {
        let name = fields.first().map(|field| field.name().clone());
        Ok(Field::new(name.unwrap_or_default(), DataType::Float64))
    };
    float(numerator).map_many(divided, &[float(denominator)], output)
}

fn divided(sides: &mut [Column]) -> PolarsResult<Column> {
    let [numerator, denominator] = sides else {
        polars_bail!(ComputeError: "a quotient has two sides, not {}", sides.len());
    };
    // Repeated values as values of their own: equal lengths are divided value by value.
    let numerator = numerator.as_materialized_series().f64()?;
    let denominator = denominator.as_materialized_series().f64()?;
    let divisor = match denominator.len() {
        1 => denominator.get(0),
        _ => None,
    };
    let quotient = match divisor {
        Some(divisor) => numerator.apply_values(|value| value / divisor),
        None => numerator / denominator,
    };
    Ok(quotient.into_column())
}
