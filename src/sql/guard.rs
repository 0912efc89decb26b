//! The list of what an expression may be made of. What is not on it is refused, with the reason.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, DateTimeField, DuplicateTreatment, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, UnaryOperator,
};

use super::functions::{self, Kind, WINDOWS};
use super::literals::{
    cast_type, check_interval, check_literals, date_field, list_literal, literal, text_literal,
    typed_literal,
};
use super::reference::{Elsewhere, Reference, Scope};
use super::{MAX_CHAIN, SqlError};

const ONE_TABLE: &str = "an expression reads only the columns of its own table";
const ONE_VALUE: &str = "an expression gives one plain value per row";
const NOT_COMPUTED: &str = "it is not part of the expressions that cskpi computes";

/// What an expression reads.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub columns: Vec<String>,
    pub references: Vec<Reference>,
    pub has_aggregate: bool,
}

/// Walks an expression; refuses it at the first thing that is not on the list.
pub(super) fn check(expr: &Expr, scope: Scope) -> Result<Found, SqlError> {
    let mut guard = Guard {
        found: Found::default(),
        scope,
        is_in_aggregate: false,
    };
    guard.expr(expr, 0)?;
    match guard.found.references.first() {
        Some(reference) if guard.found.has_aggregate => Err(SqlError::BesideAggregate {
            reference: reference.column(),
        }),
        _ => Ok(guard.found),
    }
}

pub(super) fn wildcard() -> SqlError {
    refused("`*` is", "name each column; only `COUNT(*)` counts rows")
}

pub(super) fn subquery() -> SqlError {
    refused("a subquery is", ONE_TABLE)
}

pub(super) fn refused(what: impl Into<String>, why: &'static str) -> SqlError {
    SqlError::NotAllowed {
        what: what.into(),
        why,
    }
}

struct Guard {
    found: Found,
    scope: Scope,
    is_in_aggregate: bool,
}

impl Guard {
    fn exprs<'a>(
        &mut self,
        exprs: impl IntoIterator<Item = &'a Expr>,
        height: usize,
    ) -> Result<(), SqlError> {
        exprs
            .into_iter()
            .try_for_each(|expr| self.expr(expr, height))
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
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => {
                    self.expr(expr, height)
                }
                _ => Err(refused(format!("the operator `{op}` is"), NOT_COMPUTED)),
            },
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, height),
            Expr::Between {
                expr, low, high, ..
            } => self.exprs([&**expr, &**low, &**high], height),
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
            Expr::Like {
                any,
                expr,
                pattern,
                escape_char,
                ..
            }
            | Expr::ILike {
                any,
                expr,
                pattern,
                escape_char,
                ..
            } => {
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
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                self.exprs(operand.as_deref(), height)?;
                for CaseWhen { condition, result } in conditions {
                    self.exprs([condition, result], height)?;
                }
                self.exprs(else_result.as_deref(), height)
            }
            Expr::Cast {
                expr,
                data_type,
                array,
                format,
                ..
            } => {
                if *array || format.is_some() {
                    return Err(refused(
                        "`CAST … FORMAT` is",
                        "use `STRPTIME` or `STRFTIME`",
                    ));
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
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let found = 1
                    + usize::from(substring_from.is_some())
                    + usize::from(substring_for.is_some());
                functions::kind("substr", found)?;
                self.expr(expr, height)?;
                self.exprs(substring_from.as_deref(), height)?;
                self.exprs(substring_for.as_deref(), height)
            }
            Expr::Trim {
                expr,
                trim_what,
                trim_characters,
                ..
            } => {
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
            return Err(refused(
                format!("the column name `{name}` is"),
                "name each column",
            ));
        }
        if !self.found.columns.contains(name) {
            self.found.columns.push(name.clone());
        }
        Ok(())
    }

    fn binary(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        height: usize,
    ) -> Result<(), SqlError> {
        use BinaryOperator::*;
        match op {
            And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | Plus | Minus | Multiply | Divide
            | DuckIntegerDivide | Modulo | StringConcat => {}
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
            _ => {
                return Err(refused(
                    format!("the function `{}` is", function.name),
                    "functions have plain names",
                ));
            }
        };
        if function.over.is_some() {
            return Err(refused("`OVER` is", WINDOWS));
        }
        let (args, is_distinct) = match &function.args {
            FunctionArguments::None => (&[][..], false),
            FunctionArguments::Subquery(_) => return Err(subquery()),
            FunctionArguments::List(list) if list.clauses.is_empty() => (
                list.args.as_slice(),
                list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
            ),
            FunctionArguments::List(_) => {
                return Err(refused(
                    format!("a clause inside of `{name}(…)` is"),
                    NOT_COMPUTED,
                ));
            }
        };
        let kind = functions::kind(&name, args.len())?;
        let has_odd_parts = function.uses_odbc_syntax
            || !matches!(function.parameters, FunctionArguments::None)
            || function.null_treatment.is_some()
            || !function.within_group.is_empty();
        if has_odd_parts {
            return Err(refused(
                format!("this form of `{name}(…)` is"),
                NOT_COMPUTED,
            ));
        }
        if is_distinct && name != "count" {
            return Err(refused("`DISTINCT` is", "only `COUNT(DISTINCT x)` has it"));
        }
        let exprs = plain_arguments(&name, args, is_distinct)?;
        check_literals(&name, &exprs)?;
        match kind {
            Kind::Aggregate => self.aggregate(&name, &exprs, function.filter.as_deref(), height),
            _ if function.filter.is_some() => {
                Err(refused("`FILTER` is", "only aggregates have it"))
            }
            Kind::Reference(to) => self.reference(to, &exprs),
            // `NORMALIZE(x, NFKC)`: its form is a word, not a column.
            Kind::Scalar if name == "normalize" => self.exprs(exprs.first().copied(), height),
            Kind::Scalar => self.exprs(exprs, height),
        }
    }

    fn reference(&mut self, to: Elsewhere, args: &[&Expr]) -> Result<(), SqlError> {
        let what = format!("`{}(…)` is", to.function());
        if let Some(why) = self.scope.refusal(to) {
            return Err(refused(what, why));
        }
        let [Expr::Identifier(ident)] = args else {
            let why = "it takes one plain name; define what is computed apart, and refer to that";
            return Err(refused(
                format!("an expression in `{}(…)` is", to.function()),
                why,
            ));
        };
        self.column(ident)?;
        let reference = Reference {
            to,
            name: ident.value.clone(),
        };
        if !self.found.references.contains(&reference) {
            self.found.references.push(reference);
        }
        Ok(())
    }

    fn aggregate(
        &mut self,
        name: &str,
        args: &[&Expr],
        filter: Option<&Expr>,
        height: usize,
    ) -> Result<(), SqlError> {
        if self.is_in_aggregate {
            return Err(SqlError::NestedAggregate {
                inner: name.to_uppercase(),
            });
        }
        self.found.has_aggregate = true;
        self.is_in_aggregate = true;
        let outcome = self.exprs(args.iter().copied().chain(filter), height);
        self.is_in_aggregate = false;
        outcome
    }
}

/// A function's arguments; none for `COUNT(*)`.
fn plain_arguments<'a>(
    name: &str,
    args: &'a [FunctionArg],
    is_distinct: bool,
) -> Result<Vec<&'a Expr>, SqlError> {
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

/// The reason for which an expression that is not on the list is not.
fn refuse(expr: &Expr) -> SqlError {
    match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } => subquery(),
        Expr::Exists { .. } => refused("`EXISTS` is", ONE_TABLE),
        Expr::InUnnest { .. } => refused("`UNNEST` is", ONE_TABLE),
        Expr::CompoundIdentifier(parts) => {
            let name = parts
                .iter()
                .map(|part| part.value.as_str())
                .collect::<Vec<_>>()
                .join(".");
            refused(
                format!("the name `{name}` is"),
                "write a column's name alone, and in double quotes if it has a dot in it",
            )
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => wildcard(),
        Expr::Array(_)
        | Expr::Tuple(_)
        | Expr::Struct { .. }
        | Expr::Dictionary(_)
        | Expr::Map(_)
        | Expr::Lambda(_) => refused("a list, tuple, structure or lambda is", ONE_VALUE),
        Expr::AnyOp { .. } | Expr::AllOp { .. } => refused("`ANY` and `ALL` are", "use `IN (…)`"),
        Expr::AtTimeZone { .. } => refused(
            "`AT TIME ZONE` is",
            "a source's `time_zone` says what its times mean",
        ),
        Expr::SimilarTo { .. } => refused("`SIMILAR TO` is", "use `LIKE` or `REGEXP`"),
        Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => refused("`IS UNKNOWN` is", "use `IS NULL`"),
        Expr::CompoundFieldAccess { .. } | Expr::JsonAccess { .. } => {
            refused("access inside of a value is", ONE_VALUE)
        }
        other => refused(format!("`{other}` is"), NOT_COMPUTED),
    }
}
