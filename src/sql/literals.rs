//! Literals and types of expressions: checked here, because polars panics on some, gives null for others, and says the rest
//! only when a run is under way.

use sqlparser::ast::{
    DataType, ExactNumberInfo, Expr, Interval, TimezoneInfo, TypedString, UnaryOperator, Value,
    ValueWithSpan,
};

use super::SqlError;
use super::guard::refused;

/// Arguments that polars wants written out, so that a mistake shows before a run.
pub(super) fn check_literals(name: &str, args: &[&Expr]) -> Result<(), SqlError> {
    match (name, args) {
        ("round" | "trunc" | "truncate", [_, digits]) => whole_literal(
            digits,
            12,
            "the number of digits",
            "a whole number from 0 to 12",
        ),
        ("lpad" | "rpad", [_, length, fill @ ..]) => {
            whole_literal(
                length,
                1_000,
                "the length to fill up to",
                "a whole number from 0 to 1000",
            )?;
            match fill.first() {
                Some(fill) if text_literal(fill, FILL, ONE_CHARACTER)?.chars().count() != 1 => {
                    Err(bad(FILL, ONE_CHARACTER, fill))
                }
                _ => Ok(()),
            }
        }
        ("quantile_cont" | "quantile_disc", [_, quantile]) => {
            let share = number_literal(quantile).filter(|share| (0.0..=1.0).contains(share));
            share
                .map(|_| ())
                .ok_or_else(|| bad("the quantile", "a number from 0 to 1", quantile))
        }
        ("strftime" | "strptime", [_, format])
        | ("date" | "timestamp" | "datetime", [_, format]) => {
            let text = text_literal(format, FORMAT, A_FORMAT)?;
            if is_time_format(text) {
                Ok(())
            } else {
                Err(bad(FORMAT, A_FORMAT, format))
            }
        }
        ("date_part", [part, _]) => date_field(text_literal(
            part,
            "the part of a date",
            "text in single quotes",
        )?),
        ("concat_ws", [separator, ..]) => {
            text_literal(separator, "the separator", "text in single quotes").map(|_| ())
        }
        ("regexp_like", [_, pattern, flags @ ..]) => {
            text_literal(pattern, "the pattern", "text in single quotes")?;
            flags.iter().try_for_each(|flags| {
                text_literal(flags, "the flags", "text in single quotes").map(|_| ())
            })
        }
        ("normalize", [_, form]) => match form {
            Expr::Identifier(ident)
                if ["NFC", "NFD", "NFKC", "NFKD"].contains(&&*ident.value.to_uppercase()) =>
            {
                Ok(())
            }
            _ => Err(bad("the form", "`NFC`, `NFD`, `NFKC` or `NFKD`", form)),
        },
        _ => Ok(()),
    }
}

const FILL: &str = "what to fill up with";
const ONE_CHARACTER: &str = "one character in single quotes";
const FORMAT: &str = "the format";
const A_FORMAT: &str = "a date format in single quotes, like '%Y/%m/%d'";

fn bad(what: &'static str, expected: &'static str, found: &Expr) -> SqlError {
    SqlError::BadLiteral {
        what,
        expected,
        found: found.to_string(),
    }
}

fn is_time_format(format: &str) -> bool {
    !chrono::format::StrftimeItems::new(format)
        .any(|item| matches!(item, chrono::format::Item::Error))
}

pub(super) fn text_literal<'a>(
    expr: &'a Expr,
    what: &'static str,
    expected: &'static str,
) -> Result<&'a str, SqlError> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => Ok(text),
        other => Err(bad(what, expected, other)),
    }
}

fn number_literal(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(digits, _),
            ..
        }) => digits.parse().ok(),
        _ => None,
    }
}

fn whole_literal(
    expr: &Expr,
    most: u32,
    what: &'static str,
    expected: &'static str,
) -> Result<(), SqlError> {
    let number = match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(digits, false),
            ..
        }) => digits.parse::<u32>().ok(),
        _ => None,
    };
    match number {
        Some(number) if number <= most => Ok(()),
        _ => Err(bad(what, expected, expr)),
    }
}

pub(super) fn literal(value: &ValueWithSpan) -> Result<(), SqlError> {
    match &value.value {
        Value::Boolean(_) | Value::Null | Value::SingleQuotedString(_) => Ok(()),
        // polars reads numbers with a point as floats and all others as 64-bit integers.
        Value::Number(digits, false) if digits.contains('.') && digits.parse::<f64>().is_ok() => {
            Ok(())
        }
        Value::Number(digits, false) if digits.parse::<i64>().is_ok() => Ok(()),
        Value::Number(digits, _) => Err(SqlError::BadLiteral {
            what: "a number",
            expected: "below 2^63, or written with a decimal point",
            found: digits.clone(),
        }),
        Value::Placeholder(name) => Err(refused(
            format!("the placeholder `{name}` is"),
            "there is nothing to fill it with",
        )),
        other => Err(refused(
            format!("the literal `{other}` is"),
            "write text in single quotes",
        )),
    }
}

/// polars wants the members of `IN (…)` written out.
pub(super) fn list_literal(expr: &Expr) -> Result<(), SqlError> {
    match expr {
        Expr::Value(value) => literal(value),
        Expr::TypedString(typed) => typed_literal(typed),
        Expr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr,
        } if number_literal(expr).is_some() => Ok(()),
        other => Err(bad("a member of `IN (…)`", "a literal", other)),
    }
}

pub(super) fn typed_literal(typed: &TypedString) -> Result<(), SqlError> {
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Err(refused(
            format!("`{typed}` is"),
            "write the date in single quotes",
        ));
    };
    let time_formats = [
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S%.f",
    ];
    let (is_valid, expected) = match &typed.data_type {
        DataType::Date => {
            let is_valid =
                text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
            (is_valid, "a date like '2024-04-01'")
        }
        DataType::Timestamp(None, TimezoneInfo::None) | DataType::Datetime(None) => {
            let is_valid = time_formats
                .iter()
                .any(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok());
            (
                is_valid && text.len() >= 16,
                "a time like '2024-04-01 09:00:00'",
            )
        }
        other => {
            return Err(refused(
                format!("a literal of type `{other}` is"),
                "there are `DATE '…'` and `TIMESTAMP '…'`",
            ));
        }
    };
    if is_valid {
        return Ok(());
    }
    Err(SqlError::BadLiteral {
        what: "the text of a typed literal",
        expected,
        found: text.clone(),
    })
}

const INTERVAL: &str = "an interval";
const FIXED_INTERVAL: &str = "text like '30 minutes', '1 day 6 hours'";
const ANY_INTERVAL: &str = "text like '30 minutes', '1 day 6 hours', '1 month'";

/// polars panics on an interval that it cannot read.
pub(super) fn check_interval(interval: &Interval, may_be_months: bool) -> Result<(), SqlError> {
    let expected = if may_be_months {
        ANY_INTERVAL
    } else {
        FIXED_INTERVAL
    };
    let is_plain = interval.leading_field.is_none()
        && interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    if !is_plain {
        return Err(SqlError::BadLiteral {
            what: INTERVAL,
            expected,
            found: interval.to_string(),
        });
    }
    let text = text_literal(&interval.value, INTERVAL, expected)?;
    if is_interval(text, may_be_months) {
        Ok(())
    } else {
        Err(bad(INTERVAL, expected, &interval.value))
    }
}

fn is_interval(text: &str, may_be_months: bool) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    let is_pair = |pair: &[&str]| {
        let [count, unit] = pair else { return false };
        let is_count =
            (1..=6).contains(&count.len()) && count.bytes().all(|byte| byte.is_ascii_digit());
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix('s').unwrap_or(&unit);
        let is_unit = match unit {
            "second" | "minute" | "hour" | "day" | "week" => true,
            "month" | "quarter" | "year" => may_be_months,
            _ => false,
        };
        is_count && is_unit
    };
    words.len() <= 12 && words.chunks(2).all(is_pair)
}

pub(super) fn date_field(field: &str) -> Result<(), SqlError> {
    const FIELDS: &[&str] = &[
        "year",
        "isoyear",
        "quarter",
        "month",
        "week",
        "isoweek",
        "day",
        "doy",
        "dayofyear",
        "dow",
        "dayofweek",
        "isodow",
        "hour",
        "minute",
        "second",
    ];
    if FIELDS.contains(&field.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(SqlError::BadLiteral {
        what: "the part of a date",
        expected: "year, isoyear, quarter, month, week, day, doy, dow, isodow, hour, minute or second",
        found: field.to_string(),
    })
}

pub(super) fn cast_type(data_type: &DataType) -> Result<(), SqlError> {
    let is_known = match data_type {
        DataType::Boolean
        | DataType::Bool
        | DataType::Int(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::Float(ExactNumberInfo::None)
        | DataType::Double(ExactNumberInfo::None)
        | DataType::DoublePrecision
        | DataType::Text
        | DataType::String(None)
        | DataType::Varchar(None)
        | DataType::Date
        | DataType::Datetime(None)
        | DataType::Timestamp(None, TimezoneInfo::None) => true,
        DataType::Decimal(info) | DataType::Numeric(info) => match info {
            ExactNumberInfo::None => true,
            ExactNumberInfo::Precision(precision) => (1..=38).contains(precision),
            ExactNumberInfo::PrecisionAndScale(precision, scale) => {
                (1..=38).contains(precision)
                    && u64::try_from(*scale).is_ok_and(|scale| scale <= *precision)
            }
        },
        _ => false,
    };
    if is_known {
        return Ok(());
    }
    Err(refused(
        format!("the type `{data_type}` is"),
        "there are BOOLEAN, INTEGER, BIGINT, DOUBLE, DECIMAL(p, s), VARCHAR, DATE and TIMESTAMP",
    ))
}
