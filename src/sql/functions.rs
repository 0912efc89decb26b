//! The functions that an expression may call: pure ones that polars knows, with how many arguments they take.

use super::SqlError;
use super::nearest::nearest;
use super::reference::Elsewhere;

/// Functions over all rows of a group.
pub const AGGREGATES: &[&str] = &[
    "sum",
    "count",
    "min",
    "max",
    "avg",
    "median",
    "stddev",
    "stddev_samp",
    "stdev",
    "stdev_samp",
    "variance",
    "var",
    "var_samp",
    "quantile_cont",
    "quantile_disc",
    "first",
    "last",
];

/// Any number.
const MANY: usize = usize::MAX;

/// Name, fewest and most arguments.
const SCALARS: &[(&str, usize, usize)] = &[
    // Numbers.
    ("abs", 1, 1),
    ("cbrt", 1, 1),
    ("ceil", 1, 1),
    ("ceiling", 1, 1),
    ("div", 2, 2),
    ("exp", 1, 1),
    ("floor", 1, 1),
    ("ln", 1, 1),
    ("log", 2, 2),
    ("log10", 1, 1),
    ("log1p", 1, 1),
    ("log2", 1, 1),
    ("mod", 2, 2),
    ("pow", 2, 2),
    ("power", 2, 2),
    ("round", 1, 2),
    ("sign", 1, 1),
    ("sqrt", 1, 1),
    ("trunc", 1, 2),
    ("truncate", 1, 2),
    // Choices.
    ("coalesce", 1, MANY),
    ("greatest", 1, MANY),
    ("if", 3, 3),
    ("ifnull", 2, 2),
    ("least", 1, MANY),
    ("nullif", 2, 2),
    // Dates and times.
    ("date", 1, 2),
    ("date_part", 2, 2),
    ("datetime", 1, 2),
    ("strftime", 2, 2),
    ("strptime", 2, 2),
    ("timestamp", 1, 2),
    // Text.
    ("char_length", 1, 1),
    ("character_length", 1, 1),
    ("concat", 1, MANY),
    ("concat_ws", 2, MANY),
    ("ends_with", 2, 2),
    ("left", 2, 2),
    ("length", 1, 1),
    ("lower", 1, 1),
    ("lpad", 2, 3),
    ("ltrim", 1, 2),
    ("normalize", 1, 2),
    ("octet_length", 1, 1),
    ("regexp_like", 2, 3),
    ("replace", 3, 3),
    ("reverse", 1, 1),
    ("right", 2, 2),
    ("rpad", 2, 3),
    ("rtrim", 1, 2),
    ("split_part", 3, 3),
    ("starts_with", 2, 2),
    ("strpos", 2, 2),
    ("substr", 2, 3),
    ("upper", 1, 1),
];

/// Functions that exist elsewhere in SQL and have a reason not to be here: name or beginning of the name, reason.
const REFUSED: &[(&str, &str)] = &[
    ("columns", "name each column"),
    (
        "current_",
        "a rerun must give the same numbers; periods have their own start and end",
    ),
    (
        "getdate",
        "a rerun must give the same numbers; periods have their own start and end",
    ),
    (
        "localtime",
        "a rerun must give the same numbers; periods have their own start and end",
    ),
    (
        "now",
        "a rerun must give the same numbers; periods have their own start and end",
    ),
    (
        "today",
        "a rerun must give the same numbers; periods have their own start and end",
    ),
    ("rand", "a rerun must give the same numbers"),
    ("uuid", "a rerun must give the same numbers"),
    ("gen_random", "a rerun must give the same numbers"),
    (
        "read_",
        "an expression opens no files; declare them under `sources`",
    ),
    (
        "scan_",
        "an expression opens no files; declare them under `sources`",
    ),
    ("unnest", "an expression gives one value per row"),
    ("row_number", WINDOWS),
    ("rank", WINDOWS),
    ("dense_rank", WINDOWS),
    ("lag", LOOK_BACK),
    ("lead", WINDOWS),
    ("first_value", WINDOWS),
    ("last_value", WINDOWS),
];

const LOOK_BACK: &str = "dimensions, touch rules and formulas over metrics look back with `previous(x)` and `year_ago(x)`";

/// Why there are no window functions.
pub(super) const WINDOWS: &str =
    "an expression sees one row, or with an aggregate one group; other rows are not in its reach";

/// What a function is, by its lower-case name and the number of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    Aggregate,
    Reference(Elsewhere),
}

pub(super) fn kind(name: &str, arguments: usize) -> Result<Kind, SqlError> {
    if AGGREGATES.contains(&name) {
        let expected = if name.starts_with("quantile_") { 2 } else { 1 };
        return check_count(name, arguments, expected, expected).map(|()| Kind::Aggregate);
    }
    if let Some((_, least, most)) = SCALARS.iter().find(|(known, ..)| *known == name) {
        return check_count(name, arguments, *least, *most).map(|()| Kind::Scalar);
    }
    if let Some(elsewhere) = Elsewhere::of(name) {
        return check_count(name, arguments, 1, 1).map(|()| Kind::Reference(elsewhere));
    }
    let refused = REFUSED.iter().find(|(refused, _)| {
        let is_family = refused.ends_with('_')
            || matches!(*refused, "rand" | "gen_random" | "localtime" | "uuid");
        *refused == name || (is_family && name.starts_with(refused))
    });
    if let Some((_, why)) = refused {
        return Err(SqlError::NotAllowed {
            what: format!("the function `{name}` is"),
            why,
        });
    }
    let known = SCALARS
        .iter()
        .map(|(known, ..)| *known)
        .chain(AGGREGATES.iter().copied())
        .chain(Elsewhere::ALL.map(Elsewhere::function));
    Err(SqlError::UnknownFunction {
        name: name.to_string(),
        nearest: nearest(name, known, 3),
    })
}

/// Whether this is the name of a function that may be called.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.to_lowercase();
    AGGREGATES.contains(&name.as_str()) || SCALARS.iter().any(|(known, ..)| *known == name)
}

fn check_count(name: &str, found: usize, least: usize, most: usize) -> Result<(), SqlError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let plural = if least == 1 { "" } else { "s" };
    let expected = match most {
        MANY => format!("{least} argument{plural} or more"),
        most if most == least => format!("{least} argument{plural}"),
        most => format!("{least} to {most} arguments"),
    };
    Err(SqlError::WrongArguments {
        name: name.to_uppercase(),
        expected,
        found,
    })
}

/// Functions that polars has for floats only.
pub(super) const FLOAT_FUNCTIONS: &[&str] = &[
    "POW", "POWER", "SQRT", "CBRT", "EXP", "LN", "LOG", "LOG2", "LOG10", "LOG1P",
];
