//! How much work parsing an expression is, before it is done.
//!
//! Where `CAST(…)`, `CASE`, `NOT …` and the like turn out to be malformed, sqlparser reads them again as plain names. Nested, that
//! doubles the time with each level: a hundred characters can keep it busy for years. So the text is first parsed with a
//! dialect that counts and gives up; the result is thrown away.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, GenericDialect};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::{SqlError, options};

/// Operands that the parser may begin to read. The largest expressions that pass need a few hundred.
const BUDGET: u32 = 3_000;

/// Refuses tokens that take the parser too long.
pub(super) fn check(tokens: Vec<Token>) -> Result<(), SqlError> {
    let dialect = Budgeted {
        left: Cell::new(BUDGET),
    };
    // An error is found again, and reported, by the parser proper.
    let _ = Parser::new(&dialect)
        .with_options(options())
        .with_tokens(tokens)
        .parse_select_item();
    if dialect.left.get() == 0 {
        Err(SqlError::TooCostly)
    } else {
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn parsed(tokens: Vec<Token>) -> Result<Expr, ParserError> {
    let dialect = Budgeted {
        left: Cell::new(BUDGET),
    };
    Parser::new(&dialect)
        .with_options(options())
        .with_tokens(tokens)
        .parse_expr()
}

/// The generic dialect, as polars reads it, up to a number of operands.
#[derive(Debug)]
struct Budgeted {
    left: Cell<u32>,
}

macro_rules! like_generic {
    ($($name:ident),* $(,)?) => {
        $(fn $name(&self) -> bool {
            GenericDialect.$name()
        })*
    };
}

impl Dialect for Budgeted {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        // Of all errors the one that no attempt recovers from.
        (left == 0).then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    like_generic! {
        supports_unicode_string_literal, supports_partition_by_after_order_by,
        supports_array_join_syntax, supports_group_by_expr, supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens, supports_connect_by,
        supports_match_recognize, supports_pipe_operator, supports_start_transaction_modifier,
        supports_window_function_null_treatment_arg, supports_dictionary_syntax,
        supports_window_clause_named_window_reference, supports_parenthesized_set_variables,
        supports_select_wildcard_except, support_map_literal_syntax, allow_extract_custom,
        allow_extract_single_quotes, supports_extract_comma_syntax,
        supports_create_view_comment_syntax, supports_parens_around_table_factor,
        supports_values_as_table_factor, supports_create_index_with_clause,
        supports_explain_with_utility_options, supports_limit_comma, supports_update_order_by,
        supports_from_first_select, supports_projection_trailing_commas,
        supports_asc_desc_in_column_definition, supports_try_convert,
        supports_bitwise_shift_operators, supports_comment_on, supports_load_extension,
        supports_named_fn_args_with_assignment_operator, supports_struct_literal,
        supports_empty_projections, supports_nested_comments, supports_multiline_comment_hints,
        supports_user_host_grantee, supports_string_escape_constant,
        supports_array_typedef_with_brackets, supports_match_against, supports_set_names,
        supports_comma_separated_set_assignments, supports_filter_during_aggregation,
        supports_select_wildcard_exclude, supports_data_type_signed_suffix,
        supports_interval_options, supports_quote_delimited_string,
        supports_select_wildcard_replace, supports_select_wildcard_ilike,
        supports_select_wildcard_rename, supports_optimize_table, supports_install, supports_detach,
        supports_prewhere, supports_with_fill, supports_limit_by, supports_interpolate,
        supports_settings, supports_select_format, supports_comment_optimizer_hint,
        supports_constraint_keyword_without_name, supports_key_column_option,
        supports_comma_separated_trim, supports_cte_without_as,
        supports_select_item_multi_column_alias, supports_xml_expressions,
    }
}
