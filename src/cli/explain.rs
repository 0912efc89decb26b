//! `explain`: what a metric is made of, and the numbers behind a published value of it.

mod text;

use super::language::Language;
use super::run::{Output, named_period};
use super::{Project, project, terminal};
use crate::columns::TOTAL;
use crate::failure::Failure;
use crate::lineage::definition::{self, Definition};
use crate::metrics::catalogue::{Interval, Metric};
use crate::period::Period;
use crate::run::published::{Group, Numbers, Published};
use crate::sql::nearest::nearest;
use chrono::NaiveDate;
use serde::Serialize;
use serde_json::json;

/// Names that a message lists before it says how many more there are.
const LISTED: usize = 10;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of a metric: `nrr`.
    metric: String,
    /// The pipeline file.
    pipeline: String,
    /// Period of the numbers: `2026-07`, `2026-W31`, `2026-Q2`, a first day, `last` (the default: the last one published), or `last-3`.
    #[arg(long)]
    period: Option<String>,
    /// Group of the numbers: `total` (the default), or `industry=製造業`.
    #[arg(long)]
    member: Option<String>,
    /// Tell what is defined, and look at nothing that is published.
    #[arg(long, conflicts_with_all = ["period", "member"])]
    offline: bool,
    /// In which language.
    #[arg(long, value_enum, default_value_t = Language::En)]
    language: Language,
    /// `json` prints all of it as JSON, in both languages.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A metric explained.
struct Explanation<'a> {
    metric: &'a Metric,
    definition: Definition,
    evidence: Evidence,
}

/// What is published of it.
enum Evidence {
    NotAskedFor,
    /// Which table is not published yet, and where.
    Nothing {
        table: &'static str,
        root: String,
    },
    Found(Box<Found>),
}

#[derive(Debug, Serialize)]
struct Found {
    period: String,
    period_start: NaiveDate,
    dimension: String,
    member: String,
    /// SQL of the dimension.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension_sql: Option<String>,
    #[serde(flatten)]
    numbers: Numbers,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_none: Option<WhyNone>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum WhyNone {
    /// The metric feeds others.
    Hidden,
    /// The pipeline has chosen not to publish it.
    NotChosen,
    /// It is told of other dimensions.
    OtherDimensions,
    /// No item occurs in the group.
    NoItems,
    /// The period was published without it.
    OlderDefinition,
}

pub fn explain(args: &Args) -> Result<(), Failure> {
    if args.metric.ends_with(".yaml") || args.metric.ends_with(".yml") {
        return Err(Failure::usage(format!("`{}` is no metric", args.metric))
            .hint("the metric comes first: `cskpi explain nrr pipeline.yaml`"));
    }
    let project = project(&args.pipeline)?;
    let metric = named_metric(&project, &args.metric)?;
    let explanation = Explanation {
        metric,
        definition: definition::definition(metric, &project.catalogue, &project.pipeline),
        evidence: evidence(&project, metric, args)?,
    };
    match args.output {
        Output::Text => terminal::out(&text::rendered(&explanation, args.language)),
        Output::Json => say!("{}", explanation.json()),
    }
    Ok(())
}

fn named_metric<'a>(project: &'a Project, id: &str) -> Result<&'a Metric, Failure> {
    project.catalogue.get(id).ok_or_else(|| {
        let ids = || project.catalogue.all().map(|metric| metric.id.as_str());
        let failure = Failure::usage(format!("there is no metric `{id}`"));
        match nearest(id, ids(), 3).as_slice() {
            [] => failure.hint(format!("`cskpi docs {}` lists them", project.pipeline.file)),
            near => failure.hint(format!("did you mean `{}`?", near.join("`, `"))),
        }
    })
}

fn evidence(project: &Project, metric: &Metric, args: &Args) -> Result<Evidence, Failure> {
    if args.offline {
        return Ok(Evidence::NotAskedFor);
    }
    let root = &project.pipeline.outputs.root;
    let published = Published::at(project.outputs()?)?;
    let table = match metric.by {
        Some(_) => "kpi_breakdown",
        None => "kpi_values",
    };
    let periods = published.periods(table);
    let Some(last) = periods.last() else {
        if args.period.is_none() && args.member.is_none() {
            return Ok(Evidence::Nothing {
                table,
                root: root.clone(),
            });
        }
        let hint = format!("`cskpi run {}` publishes it", project.pipeline.file);
        return Err(Failure::usage(format!("no {table} is published yet under {root}")).hint(hint));
    };
    let period = named(project, args.period.as_deref(), &periods, *last, table)?;
    // A group without any item is a group, too.
    let mut groups = published.groups("kpi_values", &period)?;
    if groups.is_empty() {
        groups = published.groups(table, &period)?;
    }
    let group = named_group(args.member.as_deref().unwrap_or(TOTAL), &groups)?;
    let columns = definition::columns(metric, &project.catalogue);
    let numbers = published.numbers(
        metric,
        &columns,
        &group,
        &period,
        &project.pipeline,
        &project.catalogue,
    )?;
    let mut dimensions = project.pipeline.dimensions.iter();
    Ok(Evidence::Found(Box::new(Found {
        period: project.pipeline.calendar.label(period.index),
        period_start: period.start,
        dimension_sql: dimensions
            .find(|dimension| dimension.name == group.dimension)
            .map(|dimension| dimension.sql.clone()),
        why_none: why_none(project, metric, &group, &numbers),
        dimension: group.dimension,
        member: group.member,
        numbers,
    })))
}

/// A period that is published.
fn named(
    project: &Project,
    text: Option<&str>,
    periods: &[NaiveDate],
    last: NaiveDate,
    table: &str,
) -> Result<Period, Failure> {
    let calendar = &project.pipeline.calendar;
    let last = calendar.index_of(last);
    let index = match text {
        None => last,
        Some(text) => named_period(calendar, text, last)?,
    };
    let period = calendar.period(index);
    if periods.contains(&period.start) {
        return Ok(period);
    }
    let nearest = periods
        .iter()
        .min_by_key(|start| (**start - period.start).num_days().abs());
    let label = |start: &NaiveDate| calendar.label(calendar.index_of(*start));
    let failure = Failure::usage(format!(
        "no {table} of {} is published",
        calendar.label(index)
    ));
    Err(match (periods, nearest) {
        ([first, .., last], Some(near)) => failure.hint(format!(
            "the nearest is {}; published are {} periods from {} to {}",
            label(near),
            periods.len(),
            label(first),
            label(last)
        )),
        (_, Some(near)) => failure.hint(format!("published is {}", label(near))),
        _ => failure,
    })
}

/// A group that is published: `total`, or a dimension or cohort and its member.
fn named_group(text: &str, groups: &[Group]) -> Result<Group, Failure> {
    let Some((dimension, member)) = text.split_once('=') else {
        if text == TOTAL {
            return Ok(Group {
                dimension: TOTAL.to_owned(),
                member: TOTAL.to_owned(),
            });
        }
        return Err(Failure::usage(format!("--member `{text}` names no group"))
            .hint("write `total`, or a dimension and its member: `industry=製造業`"));
    };
    let wanted = Group {
        dimension: dimension.trim().to_owned(),
        member: member.trim().to_owned(),
    };
    if groups.contains(&wanted) {
        return Ok(wanted);
    }
    let mut dimensions: Vec<&str> = groups
        .iter()
        .map(|group| group.dimension.as_str())
        .collect();
    dimensions.dedup();
    let (what, known): (String, Vec<&str>) = if dimensions.contains(&wanted.dimension.as_str()) {
        let members = groups
            .iter()
            .filter(|group| group.dimension == wanted.dimension);
        (
            format!(
                "`{}` has no member `{}` in that period",
                wanted.dimension, wanted.member
            ),
            members.map(|group| group.member.as_str()).collect(),
        )
    } else {
        (
            format!("`{}` is no published dimension or cohort", wanted.dimension),
            dimensions,
        )
    };
    let word = if what.contains("member") {
        &wanted.member
    } else {
        &wanted.dimension
    };
    let near = nearest(word, known.iter().copied(), 3);
    let hint = match near.is_empty() {
        false => format!("did you mean `{}`?", near.join("`, `")),
        true => {
            let more = known.len().saturating_sub(LISTED);
            let listed = known[..known.len() - more].join("`, `");
            match more {
                0 => format!("there are `{listed}`"),
                more => format!("there are `{listed}` and {more} more"),
            }
        }
    };
    Err(Failure::usage(what).hint(hint))
}

fn why_none(
    project: &Project,
    metric: &Metric,
    group: &Group,
    numbers: &Numbers,
) -> Option<WhyNone> {
    let is_chosen = project
        .catalogue
        .documented()
        .any(|documented| documented.id == metric.id);
    let has_any = numbers.value.is_some() || !numbers.items.is_empty();
    let why = if metric.hidden {
        WhyNone::Hidden
    } else if !is_chosen {
        WhyNone::NotChosen
    } else if !metric.is_for(&group.dimension) {
        WhyNone::OtherDimensions
    } else if metric.by.is_some() {
        WhyNone::NoItems
    } else {
        WhyNone::OlderDefinition
    };
    (!has_any).then_some(why)
}

impl Explanation<'_> {
    fn json(&self) -> serde_json::Value {
        let metric = self.metric;
        let sql = |sql: &Option<crate::sql::SqlExpr>| sql.as_ref().map(|sql| sql.text().to_owned());
        let interval = metric.interval.as_ref().map(Interval::to_string);
        let (numbers, published_under) = match &self.evidence {
            Evidence::Found(found) => (serde_json::to_value(found).unwrap_or_default(), None),
            Evidence::Nothing { root, .. } => (serde_json::Value::Null, Some(root)),
            Evidence::NotAskedFor => (serde_json::Value::Null, None),
        };
        json!({
            "metric": metric.id,
            "label": { "en": metric.label_en, "ja": metric.label_ja },
            "description": { "en": metric.description_en, "ja": metric.description_ja },
            "unit": crate::marts::unit_name(metric.unit),
            "good": metric.good,
            "interval": interval,
            "sample": sql(&metric.sample),
            "pending": sql(&metric.pending),
            "dimensions": metric.dimensions,
            "needs": metric.needs,
            "source": metric.source,
            "is_custom": metric.is_custom,
            "definition": self.definition,
            "numbers": numbers,
            "nothing_published_under": published_under,
        })
    }
}
