//! Usage events or sessions: checked and rolled up in one pass over their files.

use super::{Violation, counted, references, summarised, violations_of, with_misplaced};
use crate::columns::ACCOUNT_ID;
use crate::config::Pipeline;
use crate::contract::Contract;
use crate::facts::usage;
use crate::run::{collected, collected_together};
use crate::staging::Staged;
use polars::prelude::*;
use std::collections::BTreeMap;

/// Usage, rolled up.
pub(super) struct Usage {
    pub daily: DataFrame,
    /// Where events name features.
    pub features: Option<DataFrame>,
    pub broken: Vec<Violation>,
}

/// Usage is rolled up while it is read; only the rollups are kept.
pub(super) fn usage_table(
    contract: &Contract,
    staged: &Staged,
    known: &BTreeMap<&str, DataFrame>,
    pipeline: &Pipeline,
) -> PolarsResult<Usage> {
    let is_mapped = |name: &str| staged.mapped.iter().any(|column| column == name);
    let rows = || staged.frame.clone();
    let has_account = is_mapped(ACCOUNT_ID);
    let id = if has_account {
        ACCOUNT_ID
    } else {
        "subscription_id"
    };
    let mut broken = contract.violations(rows(), &staged.mapped, &[])?;
    broken = with_misplaced(contract, rows(), broken)?;
    if has_account && is_mapped("subscription_id") {
        // The contract asks for either id; where both are mapped, the account's is the one that is used.
        let has_other = col("subscription_id").is_not_null();
        let nameless = rows().filter(col(id).is_null().and(has_other));
        let nameless = Contract::missing_values(nameless, id);
        broken = concat([broken, nameless], UnionArgs::default())?;
    }
    let usage = match known.get("subscriptions") {
        Some(subscriptions) if !has_account => {
            let accounts = usage::accounts_of_subscriptions(subscriptions.clone().lazy());
            rows().left_join(accounts, col(id), col(id))
        }
        _ => rows(),
    };
    let features = is_mapped("feature").then(|| {
        let accounts = known
            .get("accounts")
            .filter(|_| pipeline.policy.onboarding_rule.is_some());
        let signups = accounts.map(|accounts| {
            let signup = col("signup_date").min().alias("signup");
            let accounts = accounts.clone().lazy();
            accounts.group_by([col(ACCOUNT_ID)]).agg([signup])
        });
        usage::features_from_events(usage.clone(), signups, &pipeline.calendar)
    });
    let daily = match contract.table.as_str() {
        "usage_events" => {
            let calendar = &pipeline.calendar;
            usage::daily_from_events(usage, &staged.mapped, calendar, &pipeline.policy)
        }
        _ => usage::daily_from_sessions(usage, &pipeline.calendar),
    };
    // One pass over the files serves the checks and the rollup.
    let (broken, daily, features) = match features {
        None => {
            let [broken, daily] = collected_together([counted(broken), daily])?;
            (broken, daily, None)
        }
        Some(features) => {
            let [broken, daily, features] = collected_together([counted(broken), daily, features])?;
            (broken, daily, Some(features))
        }
    };
    let mut found = violations_of(contract, &broken)?;
    let (used, table) = if has_account {
        (daily.clone().lazy(), "accounts")
    } else {
        (rows(), "subscriptions")
    };
    if let Some((_, ids)) = references(known)?
        .into_iter()
        .find(|(name, _)| *name == table)
    {
        let used = used
            .select([col(id).alias("id")])
            .filter(col("id").is_not_null());
        let used = used.unique(None, UniqueKeepStrategy::Any);
        let unknown = collected(used.anti_join(ids, col("id"), col("id")))?;
        if unknown.height() > 0 {
            let unknown = Contract::unknown_references(rows(), id, unknown.lazy(), table);
            found.extend(summarised(contract, unknown)?);
        }
    }
    Ok(Usage {
        daily,
        features,
        broken: found,
    })
}
