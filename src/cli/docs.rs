//! `docs`: the metric dictionary as Markdown, printed from what is executed.

use super::{project, terminal};
use crate::failure::Failure;
use crate::marts::unit_name;
use crate::metrics::catalogue::{Catalogue, Metric};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file, whose own metrics and choices count.
    pipeline: String,
    /// Also list the metrics that are not published but feed others.
    #[arg(long)]
    all: bool,
}

pub fn docs(args: &Args) -> Result<(), Failure> {
    let project = project(&args.pipeline)?;
    terminal::out(&dictionary(
        &project.catalogue,
        &project.pipeline.name,
        args.all,
    ));
    Ok(())
}

/// The dictionary as Markdown.
fn dictionary(catalogue: &Catalogue, pipeline: &str, all: bool) -> String {
    let mut text = format!(
        "# Metrics of `{pipeline}`\n\n| id | label | ラベル | unit | good |\n|---|---|---|---|---|\n"
    );
    let hidden = catalogue.metrics().filter(|metric| all && metric.hidden);
    let metrics: Vec<&Metric> = catalogue.documented().chain(hidden).collect();
    for metric in &metrics {
        let good = format!("{:?}", metric.good).to_lowercase();
        text.push_str(&format!(
            "| [`{id}`](#{id}) | {} | {} | {} | {good} |\n",
            metric.label_en,
            metric.label_ja,
            unit_name(metric.unit),
            id = metric.id
        ));
    }
    for metric in metrics {
        text.push_str(&entry(metric));
    }
    text
}

fn entry(metric: &Metric) -> String {
    let mut text = format!(
        "\n## {}\n\n**{}** ({}): {}\n\n```sql\n",
        metric.id, metric.label_en, metric.label_ja, metric.description_en
    );
    match &metric.denominator {
        None => text.push_str(metric.numerator_text()),
        Some(denominator) => text.push_str(&format!(
            "({})\n/ ({})",
            metric.numerator_text(),
            denominator.text()
        )),
    }
    text.push_str("\n```\n\n");
    if let Some(periods) = metric.trailing {
        text.push_str(&format!(
            "- both sides pooled over the trailing {periods} periods\n"
        ));
    }
    if metric.denominator.is_some() && !metric.is_reaggregable() {
        text.push_str("- not to be re-aggregated from its numerators and denominators\n");
    }
    if !metric.needs.is_empty() {
        text.push_str(&format!("- null without {}\n", metric.needs.join(", ")));
    }
    text.push_str(&format!(
        "- unit: {}; source: {}\n",
        unit_name(metric.unit),
        metric.source
    ));
    text
}
