//! The list of what an expression may be made of. What is not on it is refused, with the reason.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Interval, ObjectNamePart, TimezoneInfo, TypedString,
    UnaryOperator, Value, ValueWithSpan,
};

use super::functions::{self, Kind, WINDOWS};
use super::{MAX_CHAIN, SqlError};

const ONE_TABLE: &str = "an expression reads only the columns of its own table";
const ONE_VALUE: &str = "an expression gives one plain value per row";
const NOT_COMPUTED: &str = "it is not part of the expressions that cskpi computes";

/// What an expression reads.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub columns: Vec<String>,
    pub has_aggregate: bool,
}

/// Walks an expression; refuses it at the first thing that is not on the list.
pub(super) fn check(expr: &Expr) -> Result<Found, SqlError> {
    let mut guard = Guard { found: Found::default(), is_in_aggregate: false };
    guard.expr(expr, 0)?;
    Ok(guard.found)
}

pub(super) fn wildcard() -> SqlError {
    refused("`*` is", "name each column; only `COUNT(*)` counts rows")
}

pub(super) fn subquery() -> SqlError {
    refused("a subquery is", ONE_TABLE)
}

fn refused(what: impl Into<String>, why: &'static str) -> SqlError {
    SqlError::NotAllowed { what: what.into(), why }
}

struct Guard {
    found: Found,
    is_in_aggregate: bool,
}

impl Guard {
    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>, height: usize) -> Result<(), SqlError> {
        exprs.into_iter().try_for_each(|expr| self.expr(expr, height))
    }

    fn expr(&mut self, expr: &Expr, height: usize) -> Result<(), SqlError> {
        let height = height + 1;
        if height > MAX_CHAIN {
            return Err(SqlError::TooLongChain);
        }
        match expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::Value(value) => literal(value),
            Expr::TypedString(typed) => typed_literal(typed),
            Expr::Interval(interval) => check_interval(interval, false),
            Expr::Nested(inner) => self.expr(inner, height),
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => self.expr(expr, height),
                _ => Err(refused(format!("the operator `{op}` is"), NOT_COMPUTED)),
            },
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, height),
            Expr::Between { expr, low, high, .. } => self.exprs([&**expr, &**low, &**high], height),
            Expr::InList { expr, list, .. } => {
                list.iter().try_for_each(list_literal)?;
                self.expr(expr, height)
            }
            Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner) => self.expr(inner, height),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.exprs([&**left, &**right], height)
            }
            Expr::Like { any, expr, pattern, escape_char, .. } | Expr::ILike { any, expr, pattern, escape_char, .. } => {
                if *any || escape_char.is_some() {
                    return Err(refused("`LIKE ANY` and `ESCAPE` are", NOT_COMPUTED));
                }
                text_literal(pattern, "the pattern of `LIKE`", "text in single quotes")?;
                self.expr(expr, height)
            }
            Expr::RLike { expr, pattern, .. } => {
                text_literal(pattern, "the pattern of `REGEXP`", "text in single quotes")?;
                self.expr(expr, height)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.exprs(operand.as_deref(), height)?;
                for CaseWhen { condition, result } in conditions {
                    self.exprs([condition, result], height)?;
                }
                self.exprs(else_result.as_deref(), height)
            }
            Expr::Cast { expr, data_type, array, format, .. } => {
                if *array || format.is_some() {
                    return Err(refused("`CAST … FORMAT` is", "use `STRPTIME` or `STRFTIME`"));
                }
                cast_type(data_type)?;
                self.expr(expr, height)
            }
            Expr::Extract { field, expr, .. } => {
                date_field(&field.to_string())?;
                self.expr(expr, height)
            }
            Expr::Ceil { expr, field } | Expr::Floor { expr, field } => match field {
                CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => self.expr(expr, height),
                _ => Err(refused("rounding to a unit is", NOT_COMPUTED)),
            },
            Expr::Position { expr, r#in } => self.exprs([&**expr, &**r#in], height),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let found = 1 + usize::from(substring_from.is_some()) + usize::from(substring_for.is_some());
                functions::kind("substr", found)?;
                self.expr(expr, height)?;
                self.exprs(substring_from.as_deref(), height)?;
                self.exprs(substring_for.as_deref(), height)
            }
            Expr::Trim { expr, trim_what, trim_characters, .. } => {
                if trim_characters.is_some() {
                    return Err(refused("`TRIM(x, …)` is", "write `TRIM('…' FROM x)`"));
                }
                if let Some(what) = trim_what {
                    text_literal(what, "what `TRIM` takes away", "text in single quotes")?;
                }
                self.expr(expr, height)
            }
            Expr::Function(function) => self.function(function, height),
            other => Err(refuse(other)),
        }
    }

    fn column(&mut self, ident: &Ident) -> Result<(), SqlError> {
        let name = &ident.value;
        // polars takes such names for a choice of several columns.
        if name.is_empty() || name == "*" || (name.starts_with('^') && name.ends_with('$')) {
            return Err(refused(format!("the column name `{name}` is"), "name each column"));
        }
        if !self.found.columns.contains(name) {
            self.found.columns.push(name.clone());
        }
        Ok(())
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, height: usize) -> Result<(), SqlError> {
        use BinaryOperator::*;
        match op {
            And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | Plus | Minus | Multiply | Divide | DuckIntegerDivide | Modulo
            | StringConcat => {}
            _ => return Err(refused(format!("the operator `{op}` is"), NOT_COMPUTED)),
        }
        self.expr(left, height)?;
        match (op, right) {
            // Only added to a date may an interval be of months, which differ in length.
            (Plus | Minus, Expr::Interval(interval)) => check_interval(interval, true),
            _ => self.expr(right, height),
        }
    }

    fn function(&mut self, function: &Function, height: usize) -> Result<(), SqlError> {
        let name = match function.name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => ident.value.to_lowercase(),
            _ => return Err(refused(format!("the function `{}` is", function.name), "functions have plain names")),
        };
        if function.over.is_some() {
            return Err(refused("`OVER` is", WINDOWS));
        }
        let (args, is_distinct) = match &function.args {
            FunctionArguments::None => (&[][..], false),
            FunctionArguments::Subquery(_) => return Err(subquery()),
            FunctionArguments::List(list) if list.clauses.is_empty() => {
                (list.args.as_slice(), list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
            }
            FunctionArguments::List(_) => return Err(refused(format!("a clause inside of `{name}(…)` is"), NOT_COMPUTED)),
        };
        let kind = functions::kind(&name, args.len())?;
        let has_odd_parts = function.uses_odbc_syntax
            || !matches!(function.parameters, FunctionArguments::None)
            || function.null_treatment.is_some()
            || !function.within_group.is_empty();
        if has_odd_parts {
            return Err(refused(format!("this form of `{name}(…)` is"), NOT_COMPUTED));
        }
        if is_distinct && name != "count" {
            return Err(refused("`DISTINCT` is", "only `COUNT(DISTINCT x)` has it"));
        }
        let exprs = plain_arguments(&name, args, is_distinct)?;
        check_literals(&name, &exprs)?;
        match kind {
            Kind::Aggregate => self.aggregate(&name, &exprs, function.filter.as_deref(), height),
            Kind::Scalar if function.filter.is_some() => Err(refused("`FILTER` is", "only aggregates have it")),
            // `NORMALIZE(x, NFKC)`: its form is a word, not a column.
            Kind::Scalar if name == "normalize" => self.exprs(exprs.first().copied(), height),
            Kind::Scalar => self.exprs(exprs, height),
        }
    }

    fn aggregate(
        &mut self,
        name: &str,
        args: &[&Expr],
        filter: Option<&Expr>,
        height: usize,
    ) -> Result<(), SqlError> {
        if self.is_in_aggregate {
            return Err(SqlError::NestedAggregate { inner: name.to_uppercase() });
        }
        self.found.has_aggregate = true;
        self.is_in_aggregate = true;
        let outcome = self.exprs(args.iter().copied().chain(filter), height);
        self.is_in_aggregate = false;
        outcome
    }
}

/// A function's arguments; none for `COUNT(*)`.
fn plain_arguments<'a>(name: &str, args: &'a [FunctionArg], is_distinct: bool) -> Result<Vec<&'a Expr>, SqlError> {
    let mut exprs = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "count" && !is_distinct => {}
            FunctionArg::Unnamed(_) => return Err(wildcard()),
            FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
                return Err(refused("a named argument is", NOT_COMPUTED));
            }
        }
    }
    Ok(exprs)
}

/// Arguments that polars wants written out, so that a mistake shows before a run.
fn check_literals(name: &str, args: &[&Expr]) -> Result<(), SqlError> {
    match (name, args) {
        ("round" | "trunc" | "truncate", [_, digits]) => {
            whole_literal(digits, 12, "the number of digits", "a whole number from 0 to 12")
        }
        ("lpad" | "rpad", [_, length, fill @ ..]) => {
            whole_literal(length, 1_000, "the length to fill up to", "a whole number from 0 to 1000")?;
            match fill.first() {
                Some(fill) if text_literal(fill, FILL, ONE_CHARACTER)?.chars().count() != 1 => Err(bad(FILL, ONE_CHARACTER, fill)),
                _ => Ok(()),
            }
        }
        ("quantile_cont" | "quantile_disc", [_, quantile]) => {
            let share = number_literal(quantile).filter(|share| (0.0..=1.0).contains(share));
            share.map(|_| ()).ok_or_else(|| bad("the quantile", "a number from 0 to 1", quantile))
        }
        ("strftime" | "strptime", [_, format]) | ("date" | "timestamp" | "datetime", [_, format]) => {
            let text = text_literal(format, FORMAT, A_FORMAT)?;
            if is_time_format(text) { Ok(()) } else { Err(bad(FORMAT, A_FORMAT, format)) }
        }
        ("date_part", [part, _]) => date_field(text_literal(part, "the part of a date", "text in single quotes")?),
        ("concat_ws", [separator, ..]) => text_literal(separator, "the separator", "text in single quotes").map(|_| ()),
        ("regexp_like", [_, pattern, flags @ ..]) => {
            text_literal(pattern, "the pattern", "text in single quotes")?;
            flags.iter().try_for_each(|flags| text_literal(flags, "the flags", "text in single quotes").map(|_| ()))
        }
        ("normalize", [_, form]) => match form {
            Expr::Identifier(ident) if ["NFC", "NFD", "NFKC", "NFKD"].contains(&&*ident.value.to_uppercase()) => Ok(()),
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
    SqlError::BadLiteral { what, expected, found: found.to_string() }
}

fn is_time_format(format: &str) -> bool {
    !chrono::format::StrftimeItems::new(format).any(|item| matches!(item, chrono::format::Item::Error))
}

fn text_literal<'a>(expr: &'a Expr, what: &'static str, expected: &'static str) -> Result<&'a str, SqlError> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Ok(text),
        other => Err(bad(what, expected, other)),
    }
}

fn number_literal(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

fn whole_literal(expr: &Expr, most: u32, what: &'static str, expected: &'static str) -> Result<(), SqlError> {
    let number = match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, false), .. }) => digits.parse::<u32>().ok(),
        _ => None,
    };
    match number {
        Some(number) if number <= most => Ok(()),
        _ => Err(bad(what, expected, expr)),
    }
}

fn literal(value: &ValueWithSpan) -> Result<(), SqlError> {
    match &value.value {
        Value::Boolean(_) | Value::Null | Value::SingleQuotedString(_) => Ok(()),
        // polars reads numbers with a point as floats and all others as 64-bit integers.
        Value::Number(digits, false) if digits.contains('.') && digits.parse::<f64>().is_ok() => Ok(()),
        Value::Number(digits, false) if digits.parse::<i64>().is_ok() => Ok(()),
        Value::Number(digits, _) => Err(SqlError::BadLiteral {
            what: "a number",
            expected: "below 2^63, or written with a decimal point",
            found: digits.clone(),
        }),
        Value::Placeholder(name) => Err(refused(format!("the placeholder `{name}` is"), "there is nothing to fill it with")),
        other => Err(refused(format!("the literal `{other}` is"), "write text in single quotes")),
    }
}

/// polars wants the members of `IN (…)` written out.
fn list_literal(expr: &Expr) -> Result<(), SqlError> {
    match expr {
        Expr::Value(value) => literal(value),
        Expr::TypedString(typed) => typed_literal(typed),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } if number_literal(expr).is_some() => Ok(()),
        other => Err(bad("a member of `IN (…)`", "a literal", other)),
    }
}

fn typed_literal(typed: &TypedString) -> Result<(), SqlError> {
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Err(refused(format!("`{typed}` is"), "write the date in single quotes"));
    };
    let time_formats = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];
    let (is_valid, expected) = match &typed.data_type {
        DataType::Date => {
            let is_valid = text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
            (is_valid, "a date like '2024-04-01'")
        }
        DataType::Timestamp(None, TimezoneInfo::None) | DataType::Datetime(None) => {
            let is_valid = time_formats.iter().any(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok());
            (is_valid && text.len() >= 16, "a time like '2024-04-01 09:00:00'")
        }
        other => return Err(refused(format!("a literal of type `{other}` is"), "there are `DATE '…'` and `TIMESTAMP '…'`")),
    };
    if is_valid {
        return Ok(());
    }
    Err(SqlError::BadLiteral { what: "the text of a typed literal", expected, found: text.clone() })
}

const INTERVAL: &str = "an interval";
const FIXED_INTERVAL: &str = "text like '30 minutes', '1 day 6 hours'";
const ANY_INTERVAL: &str = "text like '30 minutes', '1 day 6 hours', '1 month'";

/// polars panics on an interval that it cannot read.
fn check_interval(interval: &Interval, may_be_months: bool) -> Result<(), SqlError> {
    let expected = if may_be_months { ANY_INTERVAL } else { FIXED_INTERVAL };
    let is_plain = interval.leading_field.is_none()
        && interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    if !is_plain {
        return Err(SqlError::BadLiteral { what: INTERVAL, expected, found: interval.to_string() });
    }
    let text = text_literal(&interval.value, INTERVAL, expected)?;
    if is_interval(text, may_be_months) { Ok(()) } else { Err(bad(INTERVAL, expected, &interval.value)) }
}

fn is_interval(text: &str, may_be_months: bool) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    let is_pair = |pair: &[&str]| {
        let [count, unit] = pair else { return false };
        let is_count = (1..=6).contains(&count.len()) && count.bytes().all(|byte| byte.is_ascii_digit());
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

fn date_field(field: &str) -> Result<(), SqlError> {
    const FIELDS: &[&str] = &[
        "year", "isoyear", "quarter", "month", "week", "isoweek", "day", "doy", "dayofyear", "dow", "dayofweek", "isodow",
        "hour", "minute", "second",
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

fn cast_type(data_type: &DataType) -> Result<(), SqlError> {
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
                (1..=38).contains(precision) && u64::try_from(*scale).is_ok_and(|scale| scale <= *precision)
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

/// The reason for which an expression that is not on the list is not.
fn refuse(expr: &Expr) -> SqlError {
    match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } => subquery(),
        Expr::Exists { .. } => refused("`EXISTS` is", ONE_TABLE),
        Expr::InUnnest { .. } => refused("`UNNEST` is", ONE_TABLE),
        Expr::CompoundIdentifier(parts) => {
            let name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
            refused(
                format!("the name `{name}` is"),
                "write a column's name alone, and in double quotes if it has a dot in it",
            )
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => wildcard(),
        Expr::Array(_) | Expr::Tuple(_) | Expr::Struct { .. } | Expr::Dictionary(_) | Expr::Map(_) | Expr::Lambda(_) => {
            refused("a list, tuple, structure or lambda is", ONE_VALUE)
        }
        Expr::AnyOp { .. } | Expr::AllOp { .. } => refused("`ANY` and `ALL` are", "use `IN (…)`"),
        Expr::AtTimeZone { .. } => refused("`AT TIME ZONE` is", "a source's `time_zone` says what its times mean"),
        Expr::SimilarTo { .. } => refused("`SIMILAR TO` is", "use `LIKE` or `REGEXP`"),
        Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => refused("`IS UNKNOWN` is", "use `IS NULL`"),
        Expr::CompoundFieldAccess { .. } | Expr::JsonAccess { .. } => refused("access inside of a value is", ONE_VALUE),
        other => refused(format!("`{other}` is"), NOT_COMPUTED),
    }
}
