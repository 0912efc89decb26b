//! Exact money: decimals throughout, rounded half away from zero as a spreadsheet's ROUND.

use crate::currency::{self, Currency};
use polars::prelude::*;

/// Decimals kept between two roundings: enough that rounding twice equals rounding once.
const WORKING_SCALE: usize = 16;

/// The decimal type in which money is computed before it is rounded.
pub fn working() -> DataType {
    DataType::Decimal(38, WORKING_SCALE)
}

/// The decimal type of published money.
pub fn published(currency: &Currency) -> DataType {
    DataType::Decimal(18, currency.minor_digits as usize)
}

/// The decimal type of sums of published money on their way.
pub fn summed(currency: &Currency) -> DataType {
    DataType::Decimal(38, currency.minor_digits as usize)
}

/// Rounds to the reporting currency's minor unit.
pub fn to_minor_unit(value: Expr, currency: &Currency) -> Expr {
    value
        .cast(working())
        .round(currency.minor_digits, RoundMode::HalfAwayFromZero)
        .cast(summed(currency))
}

/// Rounds to the minor unit of the currency that another column names; the result keeps the working scale.
pub fn to_own_minor_unit(value: Expr, currency_code: Expr) -> Expr {
    let rounded = |digits: u32| {
        value
            .clone()
            .cast(working())
            .round(digits, RoundMode::HalfAwayFromZero)
    };
    let mut result = rounded(2);
    for digits in [0, 3, 4] {
        let codes = currency::with_minor_digits(digits);
        if let Some(is_one) = codes
            .map(|code| currency_code.clone().eq(lit(code)))
            .reduce(Expr::or)
        {
            result = when(is_one).then(rounded(digits)).otherwise(result);
        }
    }
    result
}

/// Zero in the type of money on its way.
pub fn zero(currency: &Currency) -> Expr {
    lit(0i64).cast(summed(currency))
}
