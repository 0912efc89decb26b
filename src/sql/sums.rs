//! An aggregate as a formula over sums, for who adds up the rows in a way of his own.

use super::{AGGREGATES, SqlExpr, parse};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, UnaryOperator, visit_expressions, visit_expressions_mut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use std::ops::ControlFlow;

impl SqlExpr {
    /// The expression with a column in place of each `SUM(…)`; `column` names it, given what is summed row by row.
    ///
    /// The error is the first aggregate that is no such sum: an average, a count, a sum that reads no column.
    pub fn over_sums(&self, mut column: impl FnMut(SqlExpr) -> String) -> Result<Self, String> {
        let parsed = Parser::new(&GenericDialect)
            .with_options(super::options())
            .try_with_sql(&self.text)
            .and_then(|mut parser| parser.parse_expr());
        let Ok(mut formula) = parsed else {
            return Err(self.text.clone());
        };
        let _ = visit_expressions_mut(&mut formula, |node| {
            let Some(summed) = summed(node).and_then(|row| parse(&row.to_string()).ok()) else {
                return ControlFlow::<()>::Continue(());
            };
            if !summed.columns.is_empty() {
                *node = Expr::Identifier(Ident::with_quote('"', column(summed)));
            }
            ControlFlow::Continue(())
        });
        let left = visit_expressions(&formula, |node| match node {
            Expr::Function(function) if is_aggregate(function) => {
                ControlFlow::Break(function.to_string())
            }
            _ => ControlFlow::Continue(()),
        });
        match left {
            ControlFlow::Break(aggregate) => Err(aggregate),
            ControlFlow::Continue(()) => parse(&formula.to_string()).map_err(|_| self.text.clone()),
        }
    }
}

/// What a `SUM(…)` adds up: null, which adds nothing, where its `FILTER` does not hold.
fn summed(node: &Expr) -> Option<Expr> {
    let Expr::Function(function) = node else {
        return None;
    };
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(summed))] = list.args.as_slice() else {
        return None;
    };
    if !function.name.to_string().eq_ignore_ascii_case("sum") {
        return None;
    }
    let Some(filter) = &function.filter else {
        return Some(summed.clone());
    };
    Some(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen {
            condition: filter.as_ref().clone(),
            result: summed.clone(),
        }],
        else_result: None,
    })
}

/// Whether what it gives for each of several groups of rows adds up to what it gives for all of them: sums and counts, what
/// is added or subtracted of such, and these multiplied or divided by what is the same for every group.
pub(super) fn adds_up(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => adds_up(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Plus | UnaryOperator::Minus,
            expr,
        } => adds_up(expr),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::Plus | BinaryOperator::Minus => adds_up(left) && adds_up(right),
            BinaryOperator::Multiply => {
                adds_up(left) && !aggregates(right) || !aggregates(left) && adds_up(right)
            }
            BinaryOperator::Divide => adds_up(left) && !aggregates(right),
            _ => false,
        },
        Expr::Function(function) => is_sum_or_count(function),
        _ => false,
    }
}

fn is_sum_or_count(function: &Function) -> bool {
    let is_distinct = matches!(
        &function.args,
        FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
    );
    let name = function.name.to_string().to_lowercase();
    ["sum", "count"].contains(&name.as_str()) && !is_distinct
}

fn aggregates(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |node| match node {
        Expr::Function(function) if is_aggregate(function) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn is_aggregate(function: &Function) -> bool {
    let name = function.name.to_string().to_lowercase();
    AGGREGATES.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_sums(text: &str) -> (Result<String, String>, Vec<String>) {
        let mut sums = Vec::new();
        let formula = parse(text).unwrap().over_sums(|summed| {
            sums.push(summed.text().to_owned());
            format!("sum:{}", sums.len() - 1)
        });
        (formula.map(|formula| formula.text().to_owned()), sums)
    }

    #[test]
    fn each_sum_becomes_a_column() {
        let (formula, sums) = over_sums("12 * (SUM(a) - sum(b * 2)) / POWER(SUM(a), 2)");
        assert_eq!(
            formula.as_deref(),
            Ok(r#"12 * ("sum:0" - "sum:1") / POWER("sum:2", 2)"#)
        );
        assert_eq!(sums, ["a", "b * 2", "a"]);
    }

    #[test]
    fn a_filter_is_summed_where_it_holds() {
        let (formula, sums) = over_sums("SUM(a) FILTER (WHERE b > 0 AND c IS NULL)");
        assert_eq!(formula.as_deref(), Ok(r#""sum:0""#));
        assert_eq!(sums, ["CASE WHEN b > 0 AND c IS NULL THEN a END"]);
    }

    #[test]
    fn what_adds_up_over_groups() {
        for (text, expected) in [
            ("SUM(a)", true),
            ("sum(a * b)", true),
            ("SUM(a) FILTER (WHERE b > 0)", true),
            ("COUNT(*)", true),
            ("COUNT(a)", true),
            ("100 * (SUM(a) - SUM(b)) / 3600.0", true),
            ("-SUM(a) * POWER(2, c)", true),
            ("COUNT(DISTINCT a)", false),
            ("AVG(a)", false),
            ("MAX(a)", false),
            ("SUM(a) / SUM(b)", false),
            ("SUM(a) * SUM(b)", false),
            ("12 / SUM(a)", false),
            ("SUM(a) + 1", false),
            ("SUM(a) + MAX(b)", false),
            ("SUM(a) / MAX(b)", false),
            ("ABS(SUM(a))", false),
            ("CASE WHEN SUM(a) > 0 THEN SUM(a) END", false),
            ("a", false),
            ("1", false),
        ] {
            assert_eq!(parse(text).unwrap().adds_up(), expected, "{text}");
        }
    }

    #[test]
    fn other_aggregates_are_no_sums() {
        for text in [
            "AVG(a)",
            "COUNT(*)",
            "COUNT(DISTINCT a)",
            "SUM(1)",
            "QUANTILE_CONT(a, 0.5)",
        ] {
            let (formula, _) = over_sums(&format!("SUM(b) / {text}"));
            assert_eq!(formula, Err(text.to_owned()));
        }
    }
}
