//! An explanation as text.

use super::super::language::Language;
use super::{Evidence, Explanation, Found, WhyNone};
use crate::lineage::definition::{Definition, Formula, InputColumn, InputTable, Setting};
use crate::metrics::catalogue::Metric;
use crate::run::published::{Accounts, Value};
use std::fmt::Write;

/// What is written in one of the two languages.
pub(super) fn rendered(explanation: &Explanation, language: Language) -> String {
    let mut page = Page {
        text: String::new(),
        language,
    };
    page.metric(explanation.metric);
    page.definition(explanation.metric, &explanation.definition);
    match &explanation.evidence {
        Evidence::NotAskedFor => {}
        Evidence::Nothing { table, root } => page.line(
            0,
            &match language {
                Language::En => format!("\nNo {table} is published yet under {root}."),
                Language::Ja => format!("\n{root} に {table} はまだ出力されていません。"),
            },
        ),
        Evidence::Found(found) => page.found(explanation.metric, found),
    }
    page.text
}

struct Page {
    text: String,
    language: Language,
}

impl Page {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{:indent$}{text}", "", indent = depth * 2);
    }

    fn pick(&self, english: &'static str, japanese: &'static str) -> &'static str {
        self.language.pick(english, japanese)
    }

    fn heading(&mut self, english: &'static str, japanese: &'static str) {
        let heading = self.pick(english, japanese);
        self.line(0, &format!("\n{heading}"));
    }

    /// Names in a column of their own, each with what is to be said of it.
    fn table(&mut self, depth: usize, rows: &[(String, String)]) {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max();
        for (name, text) in rows {
            let line = format!("{name:<width$}  {text}", width = width.unwrap_or(0));
            self.line(depth, line.trim_end());
        }
    }

    fn metric(&mut self, metric: &Metric) {
        let language = self.language;
        let (unit, good) = (language.unit(metric.unit), language.good(metric.good));
        let label = language.label(metric);
        self.line(
            0,
            &match language {
                Language::En => format!("{}: {label} (unit: {unit}; good: {good})", metric.id),
                Language::Ja => format!("{}：{label}（単位：{unit}、{good}）", metric.id),
            },
        );
        self.line(0, language.description(metric));
    }

    fn definition(&mut self, metric: &Metric, definition: &Definition) {
        self.heading("SQL", "SQL");
        for formula in &definition.formulas {
            self.formula(formula);
        }
        if let Some(interval) = &metric.interval {
            let kind = self.language.interval(interval);
            let name = self.pick("95 % interval: ", "95%信頼区間：");
            self.line(1, &format!("{name}{kind}"));
        }
        if !definition.columns.is_empty() {
            self.heading("Columns of account_period", "account_period の列");
            let columns = definition.columns.iter();
            let rows = columns.map(|one| (one.column.clone(), one.description.clone()));
            self.table(1, &rows.collect::<Vec<_>>());
        }
        if !definition.inputs.is_empty() {
            self.heading("Inputs", "入力");
        }
        for input in &definition.inputs {
            self.input(input);
        }
        if !definition.policies.is_empty() {
            self.heading("Policy", "ポリシー");
            self.settings(&definition.policies);
        }
        if !definition.constants.is_empty() {
            self.heading("Constants", "定数");
            self.settings(&definition.constants);
        }
        let source = self.pick("Source: ", "出典：");
        self.line(0, &format!("\n{source}{}", metric.source));
    }

    fn formula(&mut self, formula: &Formula) {
        let depth = 1 + formula.depth;
        self.line(depth, &formula.metric);
        let mut rows = vec![(
            self.pick("numerator", "分子").to_owned(),
            formula.numerator.clone(),
        )];
        if let Some(denominator) = &formula.denominator {
            rows.push((
                self.pick("denominator", "分母").to_owned(),
                denominator.clone(),
            ));
        }
        if let Some(periods) = formula.trailing_periods {
            rows.push((
                self.pick("pooled", "通算").to_owned(),
                match self.language {
                    Language::En => format!("over the trailing {periods} periods"),
                    Language::Ja => format!("直近{periods}期"),
                },
            ));
        }
        self.table(depth + 1, &rows);
    }

    fn input(&mut self, input: &InputTable) {
        let place = match (&input.path, input.is_mapped) {
            (Some(path), _) => path.as_str(),
            (None, true) => self.pick("rows of the pipeline file", "パイプラインファイル内の行"),
            (None, false) => self.pick("not mapped", "マッピングなし"),
        };
        self.line(1, &format!("{}  {place}", input.table));
        for column in &input.columns {
            self.line(2, &mapped(column));
        }
        if input.is_mapped && input.is_whole {
            let rest = match input.columns.is_empty() {
                true => self.pick(
                    "every column under its own name",
                    "全ての列（名称そのまま）",
                ),
                false => self.pick(
                    "the other columns under their own names",
                    "他の列は名称そのまま",
                ),
            };
            self.line(2, rest);
        }
    }

    fn settings(&mut self, settings: &[Setting]) {
        let unset = self.pick("not set", "未設定");
        let of_period = self.pick("of the period", "期間による");
        let rows: Vec<(String, String)> = settings
            .iter()
            .map(|setting| {
                let text = match &setting.value {
                    serde_json::Value::Null if setting.name == "days_in_period" => of_period.into(),
                    serde_json::Value::Null => unset.into(),
                    serde_json::Value::String(text) => text.clone(),
                    value => value.to_string(),
                };
                (setting.name.clone(), text)
            })
            .collect();
        self.table(1, &rows);
    }

    fn found(&mut self, metric: &Metric, found: &Found) {
        let group = match found.dimension == found.member {
            true => self.pick("total", "全体").to_owned(),
            false => format!("{} = {}", found.dimension, found.member),
        };
        let sql = found.dimension_sql.as_ref();
        let sql = sql.map_or_else(String::new, |sql| format!(" ({sql})"));
        self.line(0, &format!("\n{}, {group}{sql}", found.period));
        if let Some(why) = found.why_none {
            let why = self.why_none(why, metric);
            self.line(1, &why);
        }
        if let Some(value) = &found.numbers.value {
            self.value(1, value);
        }
        for item in &found.numbers.items {
            let name = item.item.as_deref().unwrap_or_default();
            self.line(1, name);
            self.value(2, item);
        }
        if !found.numbers.refers_to.is_empty() {
            self.heading("What it refers to, as published", "参照する指標（公開値）");
            let values = found.numbers.refers_to.iter();
            let rows = values.map(|value| (value.metric.clone(), number(value.value)));
            self.table(1, &rows.collect::<Vec<_>>());
        }
        match &found.numbers.accounts {
            Some(accounts) => self.accounts(metric, accounts, found.numbers.value.as_ref()),
            None => {
                let text = self.pick(
                    "\naccount_period of this period is not published: there are no sums to show",
                    "\nこの期間の account_period は出力されていないため、合計は表示できません",
                );
                self.line(0, text);
            }
        }
    }

    fn why_none(&self, why: WhyNone, metric: &Metric) -> String {
        let text = match why {
            WhyNone::Hidden => self.pick(
                "it is not published; it feeds other metrics",
                "公開されず、他の指標の計算に使われます",
            ),
            WhyNone::NotChosen => self.pick(
                "the pipeline does not publish it (metrics.only, metrics.exclude)",
                "このパイプラインでは公開されません（metrics.only、metrics.exclude）",
            ),
            WhyNone::OtherDimensions => {
                let names = metric.dimensions.clone().unwrap_or_default().join(", ");
                return match self.language {
                    Language::En => format!("it is told of the total and these only: {names}"),
                    Language::Ja => format!("集計対象は全体と次のみです：{names}"),
                };
            }
            WhyNone::NoItems => self.pick(
                "nothing of the kind occurred here",
                "該当する項目はありません",
            ),
            WhyNone::OlderDefinition => self.pick(
                "the period was published without this metric; run it again",
                "この期間はこの指標なしで出力されています。再実行してください",
            ),
        };
        text.to_owned()
    }

    fn value(&mut self, depth: usize, value: &Value) {
        let mut rows = vec![(self.pick("value", "値"), number(value.value))];
        rows.push((self.pick("numerator", "分子"), number(value.numerator)));
        if value.denominator.is_some() {
            rows.push((self.pick("denominator", "分母"), number(value.denominator)));
        }
        if value.lower.is_some() || value.upper.is_some() {
            let bounds = format!("{} … {}", number(value.lower), number(value.upper));
            rows.push((self.pick("95 % interval", "95%信頼区間"), bounds));
        }
        if let Some(size) = value.sample_size {
            let mut text = number(Some(size as f64));
            if value.is_small_sample == Some(true) {
                text.push_str(self.pick(" (small)", "（少数）"));
            }
            rows.push((self.pick("sample", "サンプル"), text));
        }
        let remarks = [
            (
                value.is_mature == Some(false),
                self.pick("not mature yet", "未確定"),
            ),
            (
                value.is_complete == Some(false),
                self.pick("the period was not complete", "期間未完了時点の値"),
            ),
            (
                value.is_restated == Some(true),
                self.pick(
                    "restated: it differs from kpi_as_reported",
                    "修正再表示（kpi_as_reported と異なる）",
                ),
            ),
        ];
        let remarks = remarks.into_iter().filter(|(holds, _)| *holds);
        let remark = self.pick("remark", "注記");
        rows.extend(remarks.map(|(_, text)| (remark, text.to_owned())));
        let rows = rows.into_iter().map(|(name, text)| (name.to_owned(), text));
        self.table(depth, &rows.collect::<Vec<_>>());
    }

    fn accounts(&mut self, metric: &Metric, accounts: &Accounts, value: Option<&Value>) {
        let rows = number(Some(accounts.rows as f64));
        self.line(
            0,
            &match self.language {
                Language::En => format!("\nSums over {rows} rows of account_period"),
                Language::Ja => format!("\naccount_period {rows}行の合計"),
            },
        );
        let sums = accounts.sums.iter();
        let sums = sums.map(|sum| (sum.column.clone(), number(sum.sum)));
        self.table(1, &sums.collect::<Vec<_>>());
        for column in &accounts.missing {
            let text = match self.language {
                Language::En => format!(
                    "{column}: the file has no such column; it was published by another version"
                ),
                Language::Ja => {
                    format!("{column}：この列はありません（別のバージョンで出力されたファイル）")
                }
            };
            self.line(1, &text);
        }
        let Some(computed) = &accounts.computed else {
            if !metric.is_aggregate() && metric.estimator.is_none() {
                let text = self.pick(
                    "A formula over metrics: explain those for their sums and accounts.",
                    "他の指標による計算式です。合計やアカウントは参照する指標を explain してください。",
                );
                self.line(1, text);
            }
            return;
        };
        let sides = match computed.denominator {
            None => number(computed.numerator),
            denominator => format!("{} / {}", number(computed.numerator), number(denominator)),
        };
        let verdict = match (computed.reproduces, metric.trailing) {
            (_, Some(periods)) => match self.language {
                Language::En => format!(
                    "This period alone: {sides}; the value pools the trailing {periods} periods."
                ),
                Language::Ja => format!("当期のみ：{sides}。公開値は直近{periods}期の通算です。"),
            },
            (Some(true), _) => match self.language {
                Language::En => format!("These rows give {sides}: what is published."),
                Language::Ja => format!("これらの行から計算すると {sides}。公開値と一致します。"),
            },
            (Some(false), _) => {
                let published = value.map_or_else(String::new, |value| match value.denominator {
                    None => number(value.numerator),
                    denominator => format!("{} / {}", number(value.numerator), number(denominator)),
                });
                match self.language {
                    Language::En => format!(
                        "WARNING: these rows give {sides}, published is {published}. The tables or the definition are not of one run: see `cskpi plan`."
                    ),
                    Language::Ja => format!(
                        "警告：これらの行から計算すると {sides} ですが、公開値は {published} です。出力または定義の時点が異なります（`cskpi plan` を参照）。"
                    ),
                }
            }
            (None, _) => match self.language {
                Language::En => format!("These rows give {sides}."),
                Language::Ja => format!("これらの行から計算すると {sides}。"),
            },
        };
        self.line(1, &verdict);
        if accounts.largest.is_empty() {
            return;
        }
        self.heading("Accounts that count most", "影響の大きいアカウント");
        let rows = accounts.largest.iter().map(|account| {
            let name = account.account_name.as_deref().unwrap_or_default();
            let sides = match metric.denominator {
                None => number(account.numerator),
                Some(_) => format!(
                    "{} / {}",
                    number(account.numerator),
                    number(account.denominator)
                ),
            };
            (account.account_id.clone(), format!("{sides}  {name}"))
        });
        self.table(1, &rows.collect::<Vec<_>>());
    }
}

fn mapped(column: &InputColumn) -> String {
    match (&column.source, &column.constant) {
        (_, Some(constant)) => format!("{} = {constant}", column.column),
        (Some(source), None) if *source != column.column => {
            format!("{} ← {source}", column.column)
        }
        _ => column.column.clone(),
    }
}

/// A number as people read it: thousands apart, at most six decimals; `--output json` has all of them.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "null".to_owned();
    };
    if value != 0.0 && value.abs() < 1e-6 {
        return format!("{value:e}");
    }
    let plain = format!("{:.6}", value.abs());
    let (whole, decimals) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    match decimals.trim_end_matches('0') {
        "" => format!("{sign}{grouped}"),
        decimals => format!("{sign}{grouped}.{decimals}"),
    }
}
