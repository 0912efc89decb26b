//! How a source's values are read: numbers, flags, dates and times in the shapes that exports have them.

use super::instant::InstantReader;
use crate::config::{Calendar, Source};
use crate::contract::Kind;
use crate::period::{instant_of_local, polars_zone, utc_micros};
use polars::prelude::*;

/// Reads the columns of one source. What cannot be read becomes null.
pub struct Parser<'a> {
    pub source: &'a Source,
    pub calendar: &'a Calendar,
    pub is_text_file: bool,
}

impl Parser<'_> {
    /// The expression that reads `value` of type `dtype` as `kind`.
    pub fn value(&self, value: Expr, dtype: &DataType, kind: Kind, scale: usize) -> Expr {
        let is_text = *dtype == DataType::String;
        match kind {
            Kind::Text if is_text && self.is_text_file => {
                let trimmed = value.str().strip_chars(lit(NULL));
                when(trimmed.clone().eq(lit("")))
                    .then(lit(NULL))
                    .otherwise(trimmed)
            }
            Kind::Text => value.cast(DataType::String),
            Kind::Integer => {
                let number = if is_text {
                    self.number(value, 6)
                } else {
                    value.cast(DataType::Decimal(38, 6))
                };
                let whole = number.clone().cast(DataType::Int64);
                when(whole.clone().cast(DataType::Decimal(38, 6)).eq(number))
                    .then(whole)
                    .otherwise(lit(NULL))
            }
            Kind::Float if is_text => self.number(value, 12).cast(DataType::Float64),
            Kind::Float => value.cast(DataType::Float64),
            Kind::Decimal | Kind::Money if is_text => self.number(value, scale),
            Kind::Decimal | Kind::Money => value.cast(DataType::Decimal(38, scale)),
            Kind::Boolean if is_text => flag(value),
            Kind::Boolean => value.cast(DataType::Boolean),
            Kind::Date => self.date(value, dtype),
            Kind::Instant => self.instant(value, dtype),
        }
    }

    /// Text to decimal: signs of currency, blanks and thousands marks go; `△` and `▲` are minus, as in Japanese books. Marks that
    /// do not part thousands, and decimals beyond those that are kept, make it no number: it is not guessed at.
    fn number(&self, text: Expr, scale: usize) -> Expr {
        let numbers = &self.source.numbers;
        let plain = text
            .str()
            .replace_all(lit(r"[\s¥￥$€£円]"), lit(""), false)
            .str()
            .replace(lit("^[△▲−]"), lit("-"), false);
        let mark = |mark: char| {
            if mark.is_ascii_punctuation() {
                format!("\\{mark}")
            } else {
                mark.to_string()
            }
        };
        let point = mark(numbers.decimal);
        let whole = match numbers.thousands {
            Some(thousands) => format!("(?:[0-9]+|[0-9]{{1,3}}(?:{}[0-9]{{3}})+)", mark(thousands)),
            None => "[0-9]+".to_owned(),
        };
        let shape = format!(
            r"^[+-]?(?:{whole}(?:{point}[0-9]{{0,{scale}}}0*)?|{point}[0-9]{{1,{scale}}}0*)(?:[eE][+-]?[0-9]+)?$"
        );
        let is_number = plain.clone().str().contains(lit(shape), true);
        let mut digits = plain;
        if let Some(thousands) = numbers.thousands {
            digits = digits
                .str()
                .replace_all(lit(thousands.to_string()), lit(""), true);
        }
        if numbers.decimal != '.' {
            digits = digits
                .str()
                .replace_all(lit(numbers.decimal.to_string()), lit("."), true);
        }
        when(is_number)
            .then(digits.cast(DataType::Decimal(38, scale)))
            .otherwise(lit(NULL))
    }

    fn date(&self, value: Expr, dtype: &DataType) -> Expr {
        match dtype {
            DataType::Date => value,
            DataType::Datetime(_, None) => value.dt().date(),
            _ => self.calendar.local_date(self.instant(value, dtype)),
        }
    }

    /// A UTC instant. A date is the local midnight with which it begins.
    fn instant(&self, value: Expr, dtype: &DataType) -> Expr {
        match dtype {
            DataType::String => self.instant_of_text(value),
            DataType::Date => instant_of_local(self.calendar.time_zone, value),
            DataType::Datetime(_, None) => instant_of_local(self.source.time_zone, value),
            DataType::Datetime(_, Some(_)) => value
                .dt()
                .convert_time_zone(polars_zone(chrono_tz::UTC))
                .cast(utc_micros()),
            _ => lit(NULL).cast(utc_micros()),
        }
    }

    fn instant_of_text(&self, text: Expr) -> Expr {
        let reader = InstantReader {
            formats: self.source.dates.clone(),
            time_zone: self.source.time_zone,
            business_zone: self.calendar.time_zone,
        };
        let read = move |column: Column| {
            let micros: Int64Chunked = column
                .str()?
                .iter()
                .map(|text| reader.micros(text?))
                .collect();
            micros
                .with_name(column.name().clone())
                .into_column()
                .cast(&utc_micros())
        };
        text.map(read, |_, field| {
            Ok(Field::new(field.name().clone(), utc_micros()))
        })
    }
}

fn flag(text: Expr) -> Expr {
    let word = text.str().strip_chars(lit(NULL)).str().to_lowercase();
    let is_any = |words: &[&str]| {
        words
            .iter()
            .map(|known| word.clone().eq(lit(*known)))
            .reduce(Expr::or)
            .unwrap_or(lit(false))
    };
    let is_true = is_any(&["true", "t", "yes", "y", "1", "1.0", "はい", "○"]);
    let is_false = is_any(&["false", "f", "no", "n", "0", "0.0", "いいえ", "×"]);
    when(is_true)
        .then(lit(true))
        .when(is_false)
        .then(lit(false))
        .otherwise(lit(NULL))
}
