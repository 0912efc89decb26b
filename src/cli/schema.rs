//! `schema`: the pipeline file's JSON schema, and the tables' contracts.

use super::terminal;
use crate::config::schema::json_schema_text;
use crate::contract::{
    self, Contract, INPUT_TABLES, LEDGER_TABLES, OUTPUT_TABLES, PUBLISHED_BESIDE,
};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A table, such as `subscriptions` or `kpi_values`; without it the JSON schema of pipeline files is printed.
    table: Option<String>,
}

pub fn schema(args: &Args) -> Result<(), Failure> {
    let Some(table) = &args.table else {
        terminal::out(&json_schema_text());
        return Ok(());
    };
    let known = [
        &INPUT_TABLES[..],
        &OUTPUT_TABLES,
        &PUBLISHED_BESIDE,
        &LEDGER_TABLES,
    ]
    .concat();
    if !known.iter().any(|name| name == table) {
        let nearest = crate::sql::nearest::nearest(table, known.iter().copied(), 1);
        let failure = Failure::usage(format!("there is no table `{table}`"));
        return Err(match nearest.first() {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint(format!("tables: {}", known.join(", "))),
        });
    }
    terminal::out(&described(contract::of(table)));
    Ok(())
}

fn described(contract: &Contract) -> String {
    let mut text = format!("{}: {}\n", contract.table, contract.grain);
    if !contract.description.is_empty() {
        text.push_str(&format!("{}\n", contract.description));
    }
    for column in &contract.columns {
        let name = match column.each {
            None => column.name.clone(),
            Some(each) => format!(
                "<one per {}>",
                format!("{each:?}").to_lowercase().trim_end_matches('s')
            ),
        };
        let kind = format!("{:?}", column.kind).to_lowercase();
        let needed = if column.required && !column.optional {
            "required"
        } else if column.optional {
            "optional"
        } else {
            ""
        };
        let mut what = column.description.clone();
        if !column.allowed.is_empty() {
            what.push_str(&format!(" [{}]", column.allowed.join(", ")));
        }
        text.push_str(&format!("  {name:<38} {kind:<8} {needed:<9} {what}\n"));
    }
    if !contract.key.is_empty() {
        text.push_str(&format!("key: {}\n", contract.key.join(", ")));
    }
    for check in &contract.checks {
        text.push_str(&format!("check: {}\n", check.sql));
    }
    text
}
