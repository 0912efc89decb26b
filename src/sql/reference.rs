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
