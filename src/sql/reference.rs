//! Values that stand elsewhere: `previous(x)`, `year_ago(x)`, `total(x)`. polars sees a plain column of that name, which whoever
//! evaluates the expression joins on.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart,
    visit_expressions_mut,
};
use std::ops::ControlFlow;

/// Where a value stands, seen from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Elsewhere {
    /// One period earlier.
    Previous,
    /// One year earlier.
    YearAgo,
    /// In the total of the same period.
    Total,
}

/// A value of another row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub to: Elsewhere,
    /// The column or metric whose value it is.
    pub name: String,
}

/// Which references an expression may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// None: it sees its own row.
    Row,
    /// The account's rows of earlier periods.
    Account,
    /// A metric's values in earlier periods, and of the total.
    Metrics,
}

impl Elsewhere {
    pub const ALL: [Self; 3] = [Self::Previous, Self::YearAgo, Self::Total];

    /// The function that says it.
    pub fn function(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::YearAgo => "year_ago",
            Self::Total => "total",
        }
    }

    /// How many periods earlier the value is.
    pub fn periods_back(self, periods_per_year: i32) -> i32 {
        match self {
            Self::Previous => 1,
            Self::YearAgo => periods_per_year,
            Self::Total => 0,
        }
    }

    pub(super) fn of(function: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|elsewhere| elsewhere.function() == function)
    }
}

impl Reference {
    /// Name of the column that polars reads.
    pub fn column(&self) -> String {
        format!("{}({})", self.to.function(), self.name)
    }

    /// The reference that a call makes, if it is one.
    fn of(function: &Function) -> Option<Self> {
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
            return None;
        };
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(argument)))] =
            list.args.as_slice()
        else {
            return None;
        };
        Some(Self {
            to: Elsewhere::of(&name.value.to_lowercase())?,
            name: argument.value.clone(),
        })
    }
}

impl Scope {
    /// Why a reference is not allowed here.
    pub(super) fn refusal(self, to: Elsewhere) -> Option<&'static str> {
        match (self, to) {
            (Self::Metrics, _) | (Self::Account, Elsewhere::Previous | Elsewhere::YearAgo) => None,
            (Self::Account, Elsewhere::Total) => Some("only formulas over metrics know a total"),
            (Self::Row, _) => {
                Some("only dimensions, touch rules and formulas over metrics look elsewhere")
            }
        }
    }
}

/// The text of an expression with a quoted column in place of each reference.
pub(super) fn rewritten(mut expr: Expr) -> String {
    let _ = visit_expressions_mut(&mut expr, |node| {
        if let Expr::Function(function) = node
            && let Some(reference) = Reference::of(function)
        {
            *node = Expr::Identifier(Ident::with_quote('"', reference.column()));
        }
        ControlFlow::<()>::Continue(())
    });
    expr.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::SCALARS;
    use super::super::{parse, parse_in};
    use super::{Reference, Scope};

    fn read_by_polars(text: &str, scope: Scope) -> String {
        let expr = parse_in(text, scope).unwrap_or_else(|error| panic!("{text}: {error}"));
        expr.rewritten.unwrap_or(expr.text)
    }

    #[test]
    fn references_become_columns() {
        let expr = parse_in("nrr - Previous(nrr) / TOTAL(\"mrr\")", Scope::Metrics).unwrap();
        assert_eq!(expr.columns(), ["nrr", "mrr"]);
        let columns: Vec<String> = expr.references().iter().map(Reference::column).collect();
        assert_eq!(columns, ["previous(nrr)", "total(mrr)"]);
        assert_eq!(expr.text(), "nrr - Previous(nrr) / TOTAL(\"mrr\")");
        assert_eq!(
            expr.rewritten.as_deref(),
            Some("nrr - \"previous(nrr)\" / \"total(mrr)\"")
        );
        assert!(expr.to_polars().is_ok());
        // In every place where a column may stand.
        assert_eq!(
            read_by_polars(
                "CASE WHEN year_ago(a) IS NULL THEN 0 ELSE COALESCE(previous(a), 1)::DOUBLE END",
                Scope::Account
            ),
            "CASE WHEN \"year_ago(a)\" IS NULL THEN 0 ELSE COALESCE(\"previous(a)\", 1)::DOUBLE END"
        );
        // A column of such a name, and a text, are what they are.
        assert!(parse("previous + total").unwrap().references().is_empty());
        assert!(parse("x = 'previous(x)'").unwrap().references().is_empty());
    }

    #[test]
    fn what_is_written_anew_reads_the_same() {
        for text in SCALARS {
            let expr = parse(text).unwrap();
            let with_reference = format!("COALESCE({text}\n, previous(z))");
            let again = parse(&read_by_polars(&with_reference, Scope::Account))
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let names = [expr.columns(), &["previous(z)".to_owned()]].concat();
            assert_eq!(again.columns(), names, "{text}");
        }
    }

    #[test]
    fn references_stand_where_they_mean_something() {
        for (text, scope, part) in [
            ("previous(x)", Scope::Row, "only dimensions, touch rules"),
            ("total(x)", Scope::Account, "only formulas over metrics"),
            ("previous(x + 1)", Scope::Metrics, "one plain name"),
            (
                "previous(previous(x))",
                Scope::Metrics,
                "an expression in `previous(…)`",
            ),
            ("previous(a.b)", Scope::Metrics, "one plain name"),
            ("previous(*)", Scope::Metrics, "`*` is not allowed"),
            ("previous(x, 2)", Scope::Metrics, "`PREVIOUS` takes 1"),
            ("previous()", Scope::Metrics, "`PREVIOUS` takes 1"),
            ("previous(DISTINCT x)", Scope::Metrics, "`DISTINCT`"),
            ("previous(x) OVER ()", Scope::Metrics, "`OVER`"),
            ("previous(x) FILTER (WHERE y)", Scope::Metrics, "`FILTER`"),
            (
                "SUM(previous(x))",
                Scope::Metrics,
                "`previous(x)` stands in or beside",
            ),
            (
                "SUM(x) / total(x)",
                Scope::Metrics,
                "`total(x)` stands in or beside",
            ),
            ("previus(x)", Scope::Metrics, "unknown function `previus`"),
        ] {
            let error = parse_in(text, scope).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let hint = |text| parse_in(text, Scope::Metrics).unwrap_err().hint();
        assert!(
            hint("SUM(x) - previous(x)")
                .unwrap()
                .contains("a metric of its own")
        );
        assert_eq!(hint("previus(x)").unwrap(), "did you mean `previous`?");
    }
}
