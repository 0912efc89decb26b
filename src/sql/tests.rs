use super::*;

pub(super) const SCALARS: &[&str] = &[
    "amount",
    "顧客ID",
    "\"Account ID\"",
    "`Account ID`",
    "a + b * -c / 2 % 3 - 1.5",
    "a // 2",
    "first_name || ' ' || last_name",
    "NOT a AND (b OR c)",
    "a BETWEEN 1 AND 2",
    "a NOT IN (1, -2, NULL)",
    "a IN ('x', 'y')",
    "d IN (DATE '2024-01-01')",
    "a IS NULL OR b IS NOT NULL OR c IS TRUE OR d IS NOT FALSE",
    "a IS DISTINCT FROM b",
    "name LIKE 'A%' OR name NOT ILIKE '%b_'",
    "name REGEXP '^A.*$'",
    "CASE WHEN a > 1 THEN 'x' WHEN b THEN 'y' ELSE NULL END",
    "CASE a WHEN 1 THEN 2 END",
    "CAST(a AS DECIMAL(18, 2)) + TRY_CAST(b AS BIGINT) + c::DOUBLE",
    "d >= DATE '2024-02-29' AND t < TIMESTAMP '2024-01-01 09:30:00'",
    "started_at + INTERVAL '1 month' - INTERVAL '1 day 6 hours'",
    "ended_at - started_at > INTERVAL '30 minutes'",
    "EXTRACT(YEAR FROM d) * 100 + EXTRACT(month FROM d) + DATE_PART('week', d)",
    "COALESCE(a, b, 0) + NULLIF(a, 0) + IF(a > 1, 2, 3) + GREATEST(a, b) + LEAST(a, b)",
    "ROUND(a, 2) + CEIL(a) + FLOOR(b) + ABS(c) + SQRT(d)",
    "UPPER(LEFT(TRIM(a), 3)) || SUBSTR(b, 2) || SUBSTRING(c FROM 1 FOR 2) || REPLACE(d, '-', '')",
    "TRIM(LEADING '0' FROM a)",
    "POSITION('x' IN a) + STRPOS(a, 'x')",
    "LPAD(id, 8, '0')",
    "NORMALIZE(name, NFKC)",
    "STRPTIME(day, '%Y/%m/%d')",
    "a -- the remark of someone\n + 1",
    "TRUE",
];

fn columns(text: &str) -> Vec<String> {
    parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .columns
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("`{text}` passes"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_computes_passes() {
    for text in SCALARS {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(!expr.has_aggregate(), "{text}");
    }
}

#[test]
fn aggregates_are_recognised() {
    for text in [
        "SUM(a) / COUNT(*)",
        "count(DISTINCT a)",
        "MIN(a) + MAX(b) - AVG(c) + MEDIAN(d)",
        "STDDEV(a) + VARIANCE(b)",
        "QUANTILE_CONT(a, 0.9) + QUANTILE_DISC(a, 1)",
        "FIRST(a) + LAST(a)",
        "SUM(a) FILTER (WHERE b > 1)",
        "1 - NULLIF(SUM(a), 0)",
    ] {
        assert!(
            parse(text)
                .unwrap_or_else(|error| panic!("{text}: {error}"))
                .has_aggregate(),
            "{text}"
        );
    }
}

#[test]
fn columns_come_once_in_order() {
    assert_eq!(columns("b + a * b"), ["b", "a"]);
    assert_eq!(
        columns("CASE WHEN x IN (1) THEN \"Y z\" ELSE SUM(w) FILTER (WHERE v) END"),
        ["x", "Y z", "w", "v"]
    );
    assert_eq!(columns("COUNT(*)"), [""; 0]);
    assert_eq!(columns("NORMALIZE(name, nfkc)"), ["name"]);
    assert_eq!(columns("POSITION(a IN b)"), ["a", "b"]);
}

#[test]
fn unknown_columns_come_with_their_neighbours() {
    let expr = parse("closing_mmr + seats").unwrap();
    let unknown = expr.check_columns(&["closing_mrr", "opening_mrr", "seats"]);
    assert_eq!(unknown.len(), 1);
    assert_eq!(
        (unknown[0].name.as_str(), unknown[0].nearest[0].as_str()),
        ("closing_mmr", "closing_mrr")
    );
}

#[test]
fn nothing_reaches_files_other_tables_or_the_clock() {
    for text in [
        "x IN (SELECT a FROM read_csv('/etc/passwd'))",
        "(SELECT 1)",
        "x = (SELECT a FROM t)",
        "EXISTS (SELECT 1)",
        "COUNT(SELECT a FROM t)",
        "COALESCE((SELECT a FROM t), 1)",
        "x = ANY(SELECT a FROM t)",
        "x = ANY(ARRAY[1])",
        "x IN UNNEST(y)",
        "SUM(a) FILTER (WHERE b IN (SELECT c FROM d))",
        "CASE WHEN EXISTS (SELECT 1) THEN 1 END",
        "CAST((SELECT 1) AS INTEGER)",
        "TRIM((SELECT 'a' FROM t) FROM b)",
        "SUBSTRING(a FROM (SELECT 1))",
        "EXTRACT(YEAR FROM (SELECT d FROM t))",
        "a LIKE (SELECT 1)",
        "read_csv('x')",
        "read_parquet('x')",
        "scan_ndjson('x')",
        "COLUMNS('^a')",
        "COLUMNS(*)",
        "UNNEST(a)",
        "*",
        "t.*",
        "t.a",
        "\"^.*$\"",
        "\"*\"",
        "a['b']",
        "a[1]",
        "a -> 'b'",
        "[1, 2]",
        "(1, 2)",
        "{'a': 1}",
        "ROW_NUMBER() OVER ()",
        "SUM(a) OVER (PARTITION BY b)",
        "NOW()",
        "CURRENT_DATE",
        "CURRENT_TIMESTAMP",
        "RANDOM()",
        "schema.lower(a)",
        "\"lower\".\"x\"(a)",
        "$1",
        "?",
        ":name",
        "@variable + 1 = ?",
        "a AT TIME ZONE 'UTC'",
        "x -> x + 1",
        "SUM(MAX(a))",
        "SUM(a ORDER BY b)",
        "SUM(DISTINCT a)",
        "SUM(*)",
        "COUNT(DISTINCT *)",
        "COUNT()",
        "GREATEST()",
        "COALESCE()",
        "LOWER(a) FILTER (WHERE b)",
        "LOWER(a => 1)",
        "STRING_AGG(a, ',')",
        "ARRAY_AGG(a)",
    ] {
        assert!(parse(text).is_err(), "`{text}` passes");
    }
}

#[test]
fn only_one_expression() {
    for text in [
        "a; DROP TABLE b",
        "a b",
        "a AS b",
        "a, b",
        "SELECT a",
        "a FROM t",
        "DROP TABLE a",
        "a)",
        "",
        "  ",
        "-- only a remark",
    ] {
        assert!(parse(text).is_err(), "`{text}` passes");
    }
}

/// polars panics on some of these, and gives null or a late error for others.
#[test]
fn literals_are_checked() {
    for text in [
        "d > DATE '2024-02-30'",
        "d > DATE '24-1-1'",
        "t > TIMESTAMP '2024-01-01'",
        "t > TIME '10:00'",
        "d + INTERVAL 'soon'",
        "d + INTERVAL '1'",
        "d + INTERVAL '-1 day'",
        "d + INTERVAL '1 fortnight'",
        "d + INTERVAL '99999999999999999999 days'",
        "d + INTERVAL '1' DAY",
        "d + INTERVAL 1",
        "d + INTERVAL a",
        "a > INTERVAL '1 month'",
        "1e3",
        "99999999999999999999",
        "ROUND(a, b)",
        "ROUND(a, -1)",
        "ROUND(a, 4000000000)",
        "QUANTILE_CONT(a, 1.5)",
        "QUANTILE_CONT(a, b)",
        "STRFTIME(a, '%Q')",
        "STRPTIME(a, b)",
        "DATE_PART('fortnight', a)",
        "EXTRACT(EPOCH FROM a)",
        "LPAD(a, 100000000, '0')",
        "LPAD(a, 3, 'ab')",
        "CAST(a AS SMALLINT)",
        "CAST(a AS JSON)",
        "CAST(a AS DECIMAL(99, 2))",
        "CAST(a AS DECIMAL(5, 7))",
        "a::INT[]",
        "a IN (b, c)",
        "a LIKE b",
        "a LIKE 'x!%' ESCAPE '!'",
        "CEIL(a TO DAY)",
        "X'00'",
        "b'1'",
        "$$a$$",
        "a & b",
        "~a",
    ] {
        assert!(parse(text).is_err(), "`{text}` passes");
    }
}

#[test]
fn refusals_say_what_and_why() {
    assert_eq!(
        refusal("a IN (SELECT 1)"),
        "a subquery is not allowed: an expression reads only the columns of its own table"
    );
    assert_eq!(
        refusal("ROUND(a, 1, 2)"),
        "`ROUND` takes 1 to 2 arguments, found 3"
    );
    assert_eq!(
        refusal("a +"),
        "this is not a SQL expression: expected an expression, found its end"
    );
    assert_eq!(
        refusal("a b"),
        "expected one expression, found `b` after it"
    );
    assert_eq!(
        parse("uper(a)").unwrap_err().hint().as_deref(),
        Some("did you mean `upper`?")
    );
}

/// Each would overflow a stack, here or in polars, if it were not bounded. Tests run on threads of 2 MiB.
#[test]
fn size_depth_and_chains_are_bounded() {
    let repeated = |unit: &str, count: usize| unit.repeat(count);
    for count in [60, 300, 1_000, 100_000] {
        for text in [
            format!("a{}", repeated("+a", count.max(70))),
            format!("a{}", repeated(" AND a", count.max(70))),
            format!("{}a", repeated("NOT ", count)),
            format!("{}a", repeated("- ", count)),
            format!("{}a", repeated("+", count)),
            repeated("(", count),
            format!("{}a{}", repeated("(", count), repeated(")", count)),
            format!("{}a{}", repeated("ABS(", count), repeated(")", count)),
            format!(
                "{}a{}",
                repeated("CASE WHEN ", count),
                repeated(" THEN 1 END", count)
            ),
            repeated("CASE ", count),
            repeated("[", count),
            repeated("{", count),
            repeated("INTERVAL ", count),
            repeated("a IN (", count),
            repeated("a BETWEEN ", count.max(100)),
            format!("a{}", repeated("::INT", count.max(100))),
            format!("a{}", repeated(" IS NULL", count.max(100))),
            format!("a{}", repeated("[1]", count)),
            format!("a{}", repeated(".a", count)),
            repeated("CAST(", count),
            repeated("x -> ", count),
            repeated("(SELECT ", count),
            repeated("/*", count),
        ] {
            assert!(
                parse(&text).is_err(),
                "{} × {count}",
                &text[..20.min(text.len())]
            );
        }
    }
}

/// Below the bounds the parser must not try the same text over and over: some of its attempts are nested.
#[test]
fn malformed_nesting_below_the_bounds_is_given_up() {
    // Each of the first four would take from minutes to years.
    for text in [
        "CAST(".repeat(48),
        "NOT (".repeat(24),
        "POSITION(".repeat(48),
        "CASE - ".repeat(49) + &"END ".repeat(49),
    ] {
        assert_eq!(parse(&text), Err(SqlError::TooCostly), "{text}");
    }
    let units = [
        "(",
        "((a) + ",
        "ABS(",
        "IF(a, ",
        "CASE WHEN ",
        "CASE ",
        "[",
        "{",
        "{'a': ",
        "a IN (",
        "CAST(",
        "x -> (",
        "(SELECT ",
        "STRUCT(",
        "ARRAY[",
        "MAP {",
        "a[",
        "INTERVAL (",
        "NOT (",
        "EXTRACT(",
        "TRIM(",
        "(a, (",
        "POSITION(",
        "SUBSTRING(",
        "CONVERT(",
        "t.a(",
        "LIKE ANY (",
        "((SELECT a) UNION ",
    ];
    for unit in units {
        for count in [24, 49] {
            let _ = parse(&unit.repeat(count));
            let _ = parse(&format!("{}a{}", unit.repeat(count), ")".repeat(count)));
        }
    }
}

/// The counting dialect has to read as the generic one does, or it would count something else.
#[test]
fn the_budget_counts_the_same_parse() {
    for text in SCALARS {
        let tokens = Tokenizer::new(&GenericDialect, text).tokenize().unwrap();
        let generic = Parser::new(&GenericDialect)
            .with_options(options())
            .with_tokens(tokens.clone())
            .parse_expr();
        assert_eq!(budget::parsed(tokens), generic, "{text}");
    }
}

#[test]
fn the_largest_expressions_pass() {
    let chain = format!("a{}", "+a".repeat(MAX_CHAIN - 1));
    assert!(parse(&chain).is_ok());
    let list = format!("a IN ({})", vec!["'x'"; 140].join(", "));
    assert!(parse(&list).is_ok());
    let cases = format!("CASE {} END", "WHEN a = 1 THEN 'x' ".repeat(40));
    assert!(parse(&cases).is_ok());
    let nested = format!("{}a{}", "(".repeat(20), ")".repeat(20));
    assert!(parse(&nested).is_ok());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test looks at the result")]
fn a_quotient_is_the_same_for_one_row_and_for_many() {
    use polars::prelude::{IntoLazy, SortMultipleOptions, col, df, lit};

    // 112000 / 3 and 112000 × (1 / 3) differ in their last bit.
    let of_rows = |rows: usize, divisor: &str| -> Vec<f64> {
        let frame = df!("n" => vec![112_000.0; rows], "threes" => vec![3i64; rows]).unwrap();
        let same = lit(3i64).alias("same");
        let divided = parse(&format!("n / {divisor}"))
            .unwrap()
            .to_polars()
            .unwrap();
        let frame = frame.lazy().with_column(same).select([divided.alias("q")]);
        let frame = frame.collect().unwrap();
        frame
            .column("q")
            .unwrap()
            .f64()
            .unwrap()
            .into_no_null_iter()
            .collect()
    };
    for divisor in ["3", "3.0", "threes", "same"] {
        for rows in [0, 1, 2, 7] {
            assert_eq!(
                of_rows(rows, divisor),
                vec![112_000.0 / 3.0; rows],
                "{divisor}"
            );
        }
    }
    // In groups, too, and with what is null.
    let frame = df!("g" => [1, 1, 2], "n" => [Some(100_000.0), Some(12_000.0), None]).unwrap();
    let of_groups = parse("SUM(n) / 3 + MAX(n) / COUNT(*)")
        .unwrap()
        .to_polars()
        .unwrap();
    let sums = frame
        .lazy()
        .group_by([col("g")])
        .agg([of_groups.alias("q")]);
    let sums = sums
        .sort(["g"], SortMultipleOptions::default())
        .collect()
        .unwrap();
    let found: Vec<Option<f64>> = sums.column("q").unwrap().f64().unwrap().iter().collect();
    assert_eq!(found, [Some(112_000.0 / 3.0 + 50_000.0), None]);
}
