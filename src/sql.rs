//! SQL expressions of pipeline files and of the metric catalogue: parsed, bounded and checked before polars sees them.
//!
//! polars reads an expression with a full SQL parser and executor: `x IN (SELECT a FROM read_csv('…'))` opens a file, and a long
//! chain of operators overflows the stack. [`parse`] lets through only what is on a list (see [`guard`]), of bounded size.

mod budget;
mod functions;
mod guard;
mod literals;
pub mod nearest;
mod quotient;
mod reference;
mod sums;

use polars::lazy::dsl::FunctionExpr;
use polars::prelude::{DataType, Expr, Operator, PolarsResult};
use sqlparser::ast::SelectItem;
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, Tokenizer};

pub use functions::AGGREGATES;
pub use quotient::quotient;
pub use reference::{Elsewhere, Reference, Scope};

/// Longest expression.
pub const MAX_BYTES: usize = 4_000;
/// Most names, literals, operators and marks in one expression.
pub const MAX_TOKENS: usize = 300;
/// Deepest nesting of parentheses, `CASE` and prefix operators. polars parses with this limit, too.
pub const MAX_DEPTH: usize = 50;
/// Most operators of which each works on the result of the one before (`a + b + c` has two).
pub const MAX_CHAIN: usize = 64;

/// An expression that passed the guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlExpr {
    text: String,
    /// What polars reads, where that is not the text itself.
    rewritten: Option<String>,
    columns: Vec<String>,
    references: Vec<Reference>,
    has_aggregate: bool,
    adds_up: bool,
}

impl SqlExpr {
    /// `NULL`, for what no expression makes.
    pub fn null() -> Self {
        Self {
            text: "NULL".to_owned(),
            rewritten: None,
            columns: Vec::new(),
            references: Vec::new(),
            has_aggregate: false,
            adds_up: false,
        }
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns it reads, here or elsewhere, in the order of their first mention.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// What it reads elsewhere, in the order of the first mention. [`Self::to_polars`] has a column of that name for each.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Whether it aggregates rows (`SUM`, `COUNT`, …).
    pub fn has_aggregate(&self) -> bool {
        self.has_aggregate
    }

    /// Whether what it gives for each of several groups of rows adds up to what it gives for all of them.
    pub fn adds_up(&self) -> bool {
        self.adds_up
    }

    /// Whether it is just `TRUE`.
    pub fn is_always_true(&self) -> bool {
        self.text.trim().eq_ignore_ascii_case("true")
    }

    /// The same as polars computes it. Only what passed the guard gets here.
    ///
    /// Division and the functions that polars has for floats only are computed in floats: polars divides decimals at their
    /// own scale, so that 17 / 24 yen would be 1.
    pub fn to_polars(&self) -> PolarsResult<Expr> {
        let parsed = polars::sql::sql_expr(self.rewritten.as_ref().unwrap_or(&self.text))?;
        let needs_floats = functions::FLOAT_FUNCTIONS
            .iter()
            .any(|name| calls(&self.text, name));
        Ok(parsed.map_expr(|node| match node {
            Expr::BinaryExpr {
                left,
                op: Operator::TrueDivide | Operator::RustDivide,
                right,
            } => quotient((*left).clone(), (*right).clone()),
            // `SUM` asks whether there is any value at all. Groups count values in no time, but not nulls.
            Expr::Function {
                ref input,
                function: FunctionExpr::NullCount,
            } => input
                .first()
                .map_or(node.clone(), |of| of.clone().len() - of.clone().count()),
            Expr::Agg(_) if needs_floats => node.cast(DataType::Float64),
            node => node,
        }))
    }

    /// The columns it reads that are not among the known ones, each with up to three that may have been meant.
    pub fn check_columns(&self, known: &[&str]) -> Vec<UnknownColumn> {
        let unknown = self
            .columns
            .iter()
            .filter(|name| !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                let nearest = nearest::nearest(name, known.iter().copied(), 3);
                UnknownColumn {
                    name: name.clone(),
                    nearest: nearest.into_iter().map(String::from).collect(),
                }
            })
            .collect()
    }
}

/// A column that an expression reads and a table has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownColumn {
    pub name: String,
    /// Known names that are spelled alike, the nearest first.
    pub nearest: Vec<String>,
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    #[error("the expression is empty")]
    Empty,
    #[error("the expression has {bytes} bytes, more than {MAX_BYTES}")]
    TooLong { bytes: usize },
    #[error("the expression has {tokens} words and marks, more than {MAX_TOKENS}")]
    TooManyTokens { tokens: usize },
    #[error("the expression is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the expression is malformed or too deeply nested to be read in reasonable time")]
    TooCostly,
    #[error("the expression chains more than {MAX_CHAIN} operators")]
    TooLongChain,
    #[error("this is not a SQL expression: {message}")]
    Syntax { message: String },
    #[error("expected one expression, found `{found}` after it")]
    Trailing { found: String },
    /// `what` is understood, but `why` not.
    #[error("{what} not allowed: {why}")]
    NotAllowed { what: String, why: &'static str },
    #[error("unknown function `{name}`")]
    UnknownFunction {
        name: String,
        nearest: Vec<&'static str>,
    },
    #[error("`{name}` takes {expected}, found {found}")]
    WrongArguments {
        name: String,
        expected: String,
        found: usize,
    },
    #[error("{what} must be {expected}, found `{found}`")]
    BadLiteral {
        what: &'static str,
        expected: &'static str,
        found: String,
    },
    #[error("`{inner}` stands inside of another aggregate")]
    NestedAggregate { inner: String },
    #[error("`{reference}` stands in or beside an aggregate; it is a value of a whole group")]
    BesideAggregate { reference: String },
}

impl SqlError {
    /// What to write instead, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooManyTokens { .. } | Self::TooLong { .. } | Self::TooLongChain => {
                Some("use `x IN ('a', 'b', …)` in place of many comparisons, or compute the column in the source".into())
            }
            Self::UnknownFunction { nearest, .. } => Some(format!("did you mean `{}`?", nearest.first()?)),
            Self::BesideAggregate { reference } => Some(format!(
                "define what is summed up as a metric of its own, and say `{reference}` in a formula over metrics"
            )),
            Self::Trailing { found } if found.eq_ignore_ascii_case("as") => {
                Some("the key is the name; leave `AS …` out".into())
            }
            _ => None,
        }
    }
}

/// Parses one expression and checks that it is small, only computes, and sees its own row only.
pub fn parse(text: &str) -> Result<SqlExpr, SqlError> {
    parse_in(text, Scope::Row)
}

/// The same for an expression that may refer to other rows.
pub fn parse_in(text: &str, scope: Scope) -> Result<SqlExpr, SqlError> {
    check_bounds(text)?;
    // The same dialect and options as polars, so that it reads what was checked.
    let mut parser = Parser::new(&GenericDialect)
        .with_options(options())
        .try_with_sql(text)
        .map_err(parser_error)?;
    let item = parser.parse_select_item().map_err(parser_error)?;
    match parser.peek_token().token {
        Token::EOF => {}
        token => {
            return Err(SqlError::Trailing {
                found: token.to_string(),
            });
        }
    }
    let expr = match item {
        SelectItem::UnnamedExpr(expr) => expr,
        SelectItem::ExprWithAlias { alias, .. } => {
            return Err(SqlError::Trailing {
                found: alias.to_string(),
            });
        }
        SelectItem::ExprWithAliases { .. } => {
            return Err(SqlError::Trailing { found: "AS".into() });
        }
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => {
            return Err(guard::wildcard());
        }
    };
    let found = guard::check(&expr, scope)?;
    let has_references = !found.references.is_empty();
    let adds_up = sums::adds_up(&expr);
    Ok(SqlExpr {
        text: text.to_string(),
        rewritten: has_references.then(|| reference::rewritten(expr)),
        columns: found.columns,
        references: found.references,
        has_aggregate: found.has_aggregate,
        adds_up,
    })
}

fn options() -> ParserOptions {
    ParserOptions {
        trailing_commas: true,
        ..ParserOptions::default()
    }
}

/// Whether a text calls a function that expressions may call: it is meant as SQL then, and not as a column's name.
pub fn calls_known_function(text: &str) -> bool {
    let before_parens = text
        .match_indices('(')
        .map(|(position, _)| &text[..position]);
    before_parens.into_iter().any(|before| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = before.rsplit(|c| !is_word(c)).next().unwrap_or_default();
        functions::is_known(name)
    })
}

/// Refuses what would cost the parser, or polars after it, too much stack.
fn check_bounds(text: &str) -> Result<(), SqlError> {
    if text.len() > MAX_BYTES {
        return Err(SqlError::TooLong { bytes: text.len() });
    }
    let all = Tokenizer::new(&GenericDialect, text)
        .tokenize()
        .map_err(|error| SqlError::Syntax {
            message: error.to_string(),
        })?;
    let tokens: Vec<&Token> = all
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .collect();
    if tokens.is_empty() {
        return Err(SqlError::Empty);
    }
    if tokens.len() > MAX_TOKENS {
        return Err(SqlError::TooManyTokens {
            tokens: tokens.len(),
        });
    }
    // Refused here and not only by the guard: parsing queries takes far more time than parsing expressions.
    if holds_query(&tokens) {
        return Err(guard::subquery());
    }
    // The parser would take such a `CASE` for a name and complain about what follows it.
    let count = |wanted| {
        tokens
            .iter()
            .filter(|token| keyword(token) == wanted)
            .count()
    };
    if count(Keyword::CASE) > count(Keyword::END) {
        return Err(SqlError::Syntax {
            message: "a `CASE` has no `END`".into(),
        });
    }
    if depth(&tokens) > MAX_DEPTH {
        return Err(SqlError::TooDeep);
    }
    budget::check(all)
}

/// Whether words that begin a query stand where one could begin.
fn holds_query(tokens: &[&Token]) -> bool {
    use Keyword::*;
    let is_always = |word| matches!(word, SELECT | WITH);
    let is_first = |word| {
        matches!(
            word,
            FROM | VALUES | TABLE | INSERT | UPDATE | DELETE | MERGE
        )
    };
    let is_anywhere = tokens.iter().any(|token| is_always(keyword(token)));
    is_anywhere
        || tokens
            .windows(2)
            .any(|pair| *pair[0] == Token::LParen && is_first(keyword(pair[1])))
}

fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// Deepest nesting that a parser may go through: open brackets and `CASE`s, and the prefix operators in front of an operand.
fn depth(tokens: &[&Token]) -> usize {
    let (mut open, mut prefixes, mut deepest) = (0usize, 0usize, 0usize);
    for token in tokens {
        let word = keyword(token);
        match (token, word) {
            (Token::LParen | Token::LBracket | Token::LBrace, _) | (_, Keyword::CASE) => open += 1,
            (Token::RParen | Token::RBracket | Token::RBrace, _) | (_, Keyword::END) => {
                open = open.saturating_sub(1)
            }
            _ => {}
        }
        let is_prefix = matches!(
            token,
            Token::Minus | Token::Plus | Token::Tilde | Token::ExclamationMark
        ) || matches!(word, Keyword::NOT | Keyword::INTERVAL | Keyword::PRIOR);
        prefixes = if is_prefix { prefixes + 1 } else { 0 };
        deepest = deepest.max(open + prefixes);
    }
    deepest
}

fn parser_error(error: ParserError) -> SqlError {
    match error {
        ParserError::RecursionLimitExceeded => SqlError::TooDeep,
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            SqlError::Syntax {
                message: message
                    .replace("Expected: ", "expected ")
                    .replace(", found: EOF", ", found its end")
                    .replace(", found: ", ", found ")
                    // Most expressions have one line.
                    .replace(" at Line: 1, Column: ", " at column ")
                    .replace(" at Line: ", " at line ")
                    .replace(", Column: ", ", column "),
            }
        }
    }
}

#[cfg(test)]
mod tests;

/// Whether a text calls a function of that name.
fn calls(text: &str, function: &str) -> bool {
    let upper = text.to_uppercase();
    upper.match_indices(function).any(|(at, _)| {
        let is_whole = !upper[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        is_whole && upper[at + function.len()..].trim_start().starts_with('(')
    })
}
