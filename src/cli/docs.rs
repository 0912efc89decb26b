//! `docs`: the metric dictionary as Markdown, printed from what is executed.

use super::language::Language;
use super::{project, terminal};
use crate::failure::Failure;
use crate::lineage::definition;
use crate::marts::unit_name;
use crate::metrics::catalogue::{Catalogue, Metric};
use clap::ValueEnum;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file, whose own metrics and choices count.
    pipeline: String,
    /// Also list the metrics that are not published but feed others.
    #[arg(long)]
    all: bool,
    /// In which language; `both` prints one dictionary after the other.
    #[arg(long, value_enum, default_value_t = Choice::En)]
    language: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    En,
    Ja,
    Both,
}

pub fn docs(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    let (catalogue, name) = (&project.catalogue, &project.pipeline.name);
    let languages: &[Language] = match args.language {
        Choice::En => &[Language::En],
        Choice::Ja => &[Language::Ja],
        Choice::Both => &[Language::En, Language::Ja],
    };
    for (index, language) in languages.iter().enumerate() {
        let dictionary = Dictionary {
            catalogue,
            language: *language,
            // The second heading of a name gets this anchor.
            anchor: if index == 0 { "" } else { "-1" },
        };
        let between = if index == 0 { "" } else { "\n---\n\n" };
        terminal::out(&format!("{between}{}", dictionary.text(name, args.all)));
    }
    Ok(())
}

struct Dictionary<'a> {
    catalogue: &'a Catalogue,
    language: Language,
    anchor: &'static str,
}

impl Dictionary<'_> {
    /// The dictionary as Markdown.
    fn text(&self, pipeline: &str, all: bool) -> String {
        let mut text = match self.language {
            Language::En => format!(
                "# Metrics of `{pipeline}`\n\n| id | label | ラベル | unit | good |\n|---|---|---|---|---|\n"
            ),
            Language::Ja => format!(
                "# `{pipeline}` の指標一覧\n\n| ID | 名称 | 英語名 | 単位 | 望ましい方向 |\n|---|---|---|---|---|\n"
            ),
        };
        let hidden = self.catalogue.metrics();
        let hidden = hidden.filter(|metric| all && metric.hidden);
        let metrics: Vec<&Metric> = self.catalogue.documented().chain(hidden).collect();
        for metric in &metrics {
            let (one, other) = match self.language {
                Language::En => (&metric.label_en, &metric.label_ja),
                Language::Ja => (&metric.label_ja, &metric.label_en),
            };
            text.push_str(&format!(
                "| [`{id}`](#{id}{}) | {one} | {other} | {} | {} |\n",
                self.anchor,
                self.language.unit(metric.unit),
                self.language.good(metric.good),
                id = metric.id
            ));
        }
        for metric in metrics {
            text.push_str(&self.entry(metric));
        }
        text
    }

    fn entry(&self, metric: &Metric) -> String {
        let mut text = match self.language {
            Language::En => format!(
                "\n## {}\n\n**{}** ({}): {}\n\n```sql\n",
                metric.id, metric.label_en, metric.label_ja, metric.description_en
            ),
            Language::Ja => format!(
                "\n## {}\n\n**{}**（{}）：{}\n\n```sql\n",
                metric.id, metric.label_ja, metric.label_en, metric.description_ja
            ),
        };
        match &metric.denominator {
            None => text.push_str(metric.numerator_text()),
            Some(denominator) => text.push_str(&format!(
                "({})\n/ ({})",
                metric.numerator_text(),
                denominator.text()
            )),
        }
        text.push_str("\n```\n\n");
        for note in self.notes(metric) {
            text.push_str(&format!("- {note}\n"));
        }
        text
    }

    fn notes(&self, metric: &Metric) -> Vec<String> {
        let is_english = self.language == Language::En;
        let mut notes = Vec::new();
        let mut note = |english: String, japanese: String| {
            notes.push(if is_english { english } else { japanese });
        };
        if metric.hidden {
            note(
                "not published; feeds others".into(),
                "公開されず、他の指標の計算に使われる".into(),
            );
        }
        if let Some(by) = metric.by {
            let by = self.language.by(by);
            note(
                format!("in `kpi_breakdown`, by {by}"),
                format!("`kpi_breakdown` に{by}別で出力"),
            );
        }
        if let Some(periods) = metric.trailing {
            note(
                format!("both sides pooled over the trailing {periods} periods"),
                format!("分子・分母とも直近{periods}期を通算"),
            );
        }
        if metric.denominator.is_some() && !metric.is_reaggregable() {
            note(
                "not to be re-aggregated from its numerators and denominators".into(),
                "分子・分母の合計からの再集計は不可".into(),
            );
        }
        if let Some(interval) = &metric.interval {
            let kind = self.language.interval(interval);
            note(
                format!("95 % interval: {kind}"),
                format!("95%信頼区間：{kind}"),
            );
        }
        if let Some(sample) = metric.sample_sql() {
            let sql = sample.text();
            note(
                format!("sample size: `{sql}`"),
                format!("サンプルサイズ：`{sql}`"),
            );
        }
        if let Some(pending) = &metric.pending {
            let sql = pending.text();
            note(
                format!("not mature (`is_mature` is false) while `{sql}` is above 0"),
                format!("`{sql}` が0より大きい間は未確定（`is_mature` = false）"),
            );
        }
        let policies = definition::policies(metric, self.catalogue);
        if !policies.is_empty() {
            let names: Vec<String> = policies.iter().map(|name| format!("`{name}`")).collect();
            note(
                format!("policy: {}", names.join(", ")),
                format!("関係するポリシー：{}", names.join("、")),
            );
        }
        if let Some(dimensions) = &metric.dimensions {
            let english = std::iter::once("total").chain(dimensions.iter().map(String::as_str));
            let japanese = std::iter::once("全体").chain(dimensions.iter().map(String::as_str));
            note(
                format!("told of: {}", english.collect::<Vec<_>>().join(", ")),
                format!("集計対象：{}", japanese.collect::<Vec<_>>().join("、")),
            );
        }
        if !metric.needs.is_empty() {
            note(
                format!("null without {}", metric.needs.join(", ")),
                format!("{}がない場合はnull", metric.needs.join("、")),
            );
        }
        note(
            format!(
                "unit: {}; source: {}",
                unit_name(metric.unit),
                metric.source
            ),
            format!(
                "単位：{}、出典：{}",
                self.language.unit(metric.unit),
                metric.source
            ),
        );
        notes
    }
}
