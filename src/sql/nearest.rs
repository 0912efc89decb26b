//! Names that someone may have meant.

/// Words longer than this are not typing mistakes, and comparing them would take long.
const LONGEST_WORD: usize = 64;

/// Up to `limit` of the known names that are spelled much like `word`, the nearest first.
pub fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Vec<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length == 0 || length > LONGEST_WORD {
        return Vec::new();
    }
    let tolerated = (length / 3).max(1);
    let mut ranked: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let lowered = name.to_lowercase();
            let distance = strsim::damerau_levenshtein(&word, &lowered);
            let is_spelled_alike = distance <= tolerated && distance < length;
            let shared = word
                .chars()
                .zip(lowered.chars())
                .take_while(|(one, other)| one == other)
                .count();
            let is_beginning = length >= 3 && shared >= 3 && shared * 4 >= length * 3;
            // A beginning counts for less than any spelling mistake.
            let rank = if is_spelled_alike {
                distance
            } else {
                LONGEST_WORD + distance
            };
            (is_spelled_alike || is_beginning).then_some((rank, name))
        })
        .collect();
    ranked.sort();
    ranked.dedup();
    ranked.truncate(limit);
    ranked.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_beginnings_and_other_case() {
        let known = ["time_zone", "time_entries", "week_start", "begin"];
        assert_eq!(nearest("time_zon", known, 1), ["time_zone"]);
        assert_eq!(nearest("TimeZone", known, 1), ["time_zone"]);
        assert_eq!(nearest("week", known, 1), ["week_start"]);
        assert_eq!(
            nearest("invoices", ["invoice_lines", "accounts"], 1),
            ["invoice_lines"]
        );
        assert!(nearest("colour", known, 1).is_empty());
        assert!(nearest("", known, 1).is_empty());
    }

    #[test]
    fn very_long_words_have_no_neighbour() {
        assert!(nearest(&"a".repeat(100_000), ["a"], 3).is_empty());
    }
}
