//! ISO 4217: which currencies there are and how many decimals their minor unit has.

/// A currency and how many decimals its minor unit has (JPY 0, USD 2, KWD 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Currency {
    pub code: String,
    pub minor_digits: u32,
}
use crate::sql::nearest::nearest;

/// Hundredths.
const TWO_DIGITS: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BMD",
    "BND", "BOB", "BOV", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF",
    "CHW", "CNY", "COP", "COU", "CRC", "CUP", "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN",
    "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GTQ", "GYD", "HKD", "HNL",
    "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW", "KYD", "KZT",
    "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU",
    "MUR", "MVR", "MWK", "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD",
    "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD", "SCR",
    "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "USN", "UYU", "UZS", "VED",
    "VES", "WST", "XCD", "XCG", "YER", "ZAR", "ZMW", "ZWG",
];

/// No minor unit.
const NO_DIGITS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
    "VUV", "XAF", "XOF", "XPF",
];

/// Thousandths.
const THREE_DIGITS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

/// Ten-thousandths.
const FOUR_DIGITS: &[&str] = &["CLF", "UYW"];

/// Replaced in the 2020s, two digits each; old subscriptions and invoices may still carry them.
const WITHDRAWN: &[&str] = &["ANG", "BGN", "CUC", "HRK", "SLL", "VEF", "ZWL"];

/// What people write in place of a code.
const NICKNAMES: &[(&str, &str)] = &[
    ("YEN", "JPY"),
    ("RMB", "CNY"),
    ("NTD", "TWD"),
    ("EURO", "EUR"),
    ("STG", "GBP"),
    ("US$", "USD"),
];

const TABLE: &[(&[&str], u32)] = &[
    (TWO_DIGITS, 2),
    (NO_DIGITS, 0),
    (THREE_DIGITS, 3),
    (FOUR_DIGITS, 4),
    (WITHDRAWN, 2),
];

/// The currency of an ISO 4217 code; `None` if there is none such.
pub fn currency(code: &str) -> Option<Currency> {
    let (_, minor_digits) = TABLE.iter().find(|(codes, _)| codes.contains(&code))?;
    Some(Currency {
        code: code.to_string(),
        minor_digits: *minor_digits,
    })
}

/// The codes whose minor unit has so many decimals.
pub fn with_minor_digits(digits: u32) -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .filter(move |(_, of_these)| *of_these == digits)
        .flat_map(|(codes, _)| codes.iter().copied())
}

/// Codes that someone may have meant by `word`.
pub fn nearest_currencies(word: &str) -> Vec<&'static str> {
    let upper = word.trim().to_uppercase();
    if let Some((_, code)) = NICKNAMES.iter().find(|(nickname, _)| *nickname == upper) {
        return vec![code];
    }
    let codes = TABLE.iter().flat_map(|(codes, _)| codes.iter().copied());
    let exact: Vec<&str> = codes.clone().filter(|code| *code == upper).collect();
    if exact.is_empty() {
        nearest(&upper, codes, 3)
    } else {
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_standard() {
        for (code, digits) in [
            ("JPY", 0),
            ("KRW", 0),
            ("USD", 2),
            ("TWD", 2),
            ("KWD", 3),
            ("CLF", 4),
            ("BGN", 2),
        ] {
            assert_eq!(
                currency(code).map(|currency| currency.minor_digits),
                Some(digits),
                "{code}"
            );
        }
        assert_eq!(currency("jpy"), None);
        assert_eq!(currency("XXX"), None);
    }

    #[test]
    fn the_table_is_in_order_and_has_every_code_once() {
        let mut all: Vec<&str> = TABLE
            .iter()
            .flat_map(|(codes, _)| codes.iter().copied())
            .collect();
        assert!(TABLE.iter().all(|(codes, _)| codes.is_sorted()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn suggests_what_was_meant() {
        assert_eq!(nearest_currencies("jpy"), ["JPY"]);
        assert_eq!(nearest_currencies("Yen"), ["JPY"]);
        assert_eq!(nearest_currencies("USDD"), ["USD"]);
    }
}
