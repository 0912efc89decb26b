//! How the text of a source is written: delimiters, encoding, numbers, dates.

use chrono::format::{Item, StrftimeItems};
use encoding_rs::Encoding;

use super::super::did_you_mean;
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{RawCsv, RawNumbers};
use crate::config::{CsvDialect, Numbers};
use crate::sql::nearest::nearest;

pub(super) fn csv(
    raw: &RawCsv,
    is_tab_separated: bool,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<CsvDialect> {
    let delimiter = match one_byte(&raw.delimiter) {
        // The default of a file whose ending says otherwise.
        Some(b',') if is_tab_separated => Some(b'\t'),
        Some(byte) if !byte.is_ascii_alphanumeric() && byte != b'\n' && byte != b'\r' => Some(byte),
        _ => {
            let message = format!(
                "expected one ASCII character, found `{}`",
                show(&raw.delimiter)
            );
            let hint = r#"`","`, `";"`, `"|"` or `"\t"`"#.to_string();
            problems.push(path.key("delimiter"), message, hint);
            None
        }
    };
    let quote = match (raw.quote.is_empty(), one_byte(&raw.quote)) {
        (true, _) => None,
        (false, Some(byte)) if !byte.is_ascii_alphanumeric() && !byte.is_ascii_whitespace() => {
            Some(byte)
        }
        _ => {
            let message = format!(
                "expected one ASCII character or nothing, found `{}`",
                show(&raw.quote)
            );
            problems.push(
                path.key("quote"),
                message,
                Some(r#"`'"'`, or `""` for none"#.to_string()),
            );
            None
        }
    };
    if quote.is_some() && quote == delimiter {
        problems.push(
            path.key("quote"),
            "`quote` and `delimiter` are the same character",
            None,
        );
    }
    let encoding = encoding(&raw.encoding, &path.key("encoding"), problems);
    Some(CsvDialect {
        delimiter: delimiter?,
        quote,
        has_header: raw.header,
        null_words: raw.null_words.clone(),
        encoding: encoding?,
    })
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        // Single quotes and plain text keep YAML from reading the escape.
        br"\t" => Some(b'\t'),
        _ => None,
    }
}

fn encoding(label: &str, path: &YamlPath, problems: &mut Problems) -> Option<&'static Encoding> {
    const SUGGESTED: &[&str] = &[
        "utf-8",
        "shift_jis",
        "euc-jp",
        "iso-2022-jp",
        "windows-1252",
        "iso-8859-1",
        "utf-16le",
        "utf-16be",
        "gbk",
        "big5",
        "euc-kr",
    ];
    const OTHER_NAMES: &[(&str, &str)] = &[
        ("cp932", "shift_jis"),
        ("utf-8-sig", "utf-8"),
        ("utf8-bom", "utf-8"),
        ("cp1252", "windows-1252"),
        ("latin-1", "iso-8859-1"),
        ("eucjp", "euc-jp"),
    ];
    let found = Encoding::for_label_no_replacement(label.as_bytes());
    if found.is_none() {
        let lowered = label.trim().to_lowercase();
        let other = OTHER_NAMES
            .iter()
            .find(|(name, _)| *name == lowered)
            .map(|(_, known)| vec![*known]);
        let near = other.unwrap_or_else(|| nearest(&lowered, SUGGESTED.iter().copied(), 1));
        let hint = did_you_mean(&near)
            .unwrap_or("for example `utf-8`, `shift_jis`, `euc-jp`, `windows-1252`".into());
        problems.push(path, format!("unknown encoding `{}`", show(label)), hint);
    }
    found
}

pub(super) fn numbers(
    raw: &RawNumbers,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<Numbers> {
    let mark = |text: &str| {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(mark), None)
                if !mark.is_alphanumeric() && !matches!(mark, '-' | '+') && !mark.is_control() =>
            {
                Some(mark)
            }
            _ => None,
        }
    };
    let thousands = mark(&raw.thousands);
    if thousands.is_none() && !raw.thousands.is_empty() {
        let message = format!(
            "expected one character or nothing, found `{}`",
            show(&raw.thousands)
        );
        problems.push(
            path.key("thousands"),
            message,
            Some(r#"`","`, `"."`, `" "` or `""`"#.to_string()),
        );
    }
    let decimal = mark(&raw.decimal);
    if decimal.is_none() {
        let message = format!("expected one character, found `{}`", show(&raw.decimal));
        problems.push(
            path.key("decimal"),
            message,
            Some(r#"`"."` or `","`"#.to_string()),
        );
    }
    if decimal.is_some() && thousands == decimal {
        let message = format!(
            "`thousands` and `decimal` are both `{}`",
            show(&raw.decimal)
        );
        let hint = match raw.decimal.as_str() {
            "," => r#"add `thousands: "."`, or `thousands: ""` for none"#,
            _ => r#"add `decimal: ","`, or `thousands: ""` for none"#,
        };
        problems.push(path, message, Some(hint.to_string()));
    }
    Some(Numbers {
        thousands,
        decimal: decimal?,
    })
}

pub(super) fn check_date_format(format: &str, path: &YamlPath, problems: &mut Problems) {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    let is_valid = !items.contains(&Item::Error);
    let has_parts = items
        .iter()
        .any(|item| matches!(item, Item::Numeric(..) | Item::Fixed(_)));
    if is_valid && has_parts {
        return;
    }
    let guess = format
        .replace("YYYY", "%Y")
        .replace("yyyy", "%Y")
        .replace("MM", "%m")
        .replace("DD", "%d")
        .replace("dd", "%d")
        .replace("HH", "%H")
        .replace("mm", "%M")
        .replace("ss", "%S");
    let hint = match guess != format && !format.contains('%') {
        true => format!("did you mean `{}`?", show(&guess)),
        false => "for example `%Y/%m/%d` or `%d.%m.%Y %H:%M`".to_string(),
    };
    problems.push(
        path,
        format!("`{}` is not a date format", show(format)),
        hint,
    );
}

#[cfg(test)]
mod tests {
    use super::one_byte;

    #[test]
    fn separators_may_be_written_as_escapes() {
        assert_eq!(one_byte("\\t"), Some(b'\t'));
        assert_eq!(one_byte("\t"), Some(b'\t'));
        assert_eq!(one_byte("、"), None);
        assert_eq!(one_byte(",,"), None);
    }
}
