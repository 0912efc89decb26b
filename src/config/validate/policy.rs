//! `policy`: the switches of the metric specification.

use super::{Dimensions, check_dimension, check_range};
use crate::columns::SCORES;
use crate::config::Policy;
use crate::config::error::{Problems, YamlPath};
use crate::config::raw::{RawPolicy, RawSources, UpsellBase};

pub(super) fn policy(
    raw: &RawPolicy,
    sources: &RawSources,
    dimensions: &Dimensions,
    problems: &mut Problems,
) -> Policy {
    let section = YamlPath::keys(["policy"]);
    let past_due_grace_days = raw.past_due_grace_days.unwrap_or_default();
    for (number, range, key) in [
        (past_due_grace_days, 0..=3_660, "past_due_grace_days"),
        (raw.ltv_churn_periods, 1..=3_660, "ltv_churn_periods"),
        (raw.session_gap_minutes, 1..=1_440, "session_gap_minutes"),
        (raw.cohort_max_age, 1..=3_660, "cohort_max_age"),
        (raw.nps_window_days, 1..=3_660, "nps_window_days"),
        (
            raw.community_window_days,
            1..=3_660,
            "community_window_days",
        ),
        (
            raw.onboarding_window_days,
            1..=3_660,
            "onboarding_window_days",
        ),
        (raw.small_sample, 0..=1_000_000, "small_sample"),
        (raw.bootstrap_samples, 0..=2_000, "bootstrap_samples"),
        (raw.survival_horizon, 0..=1_200, "survival_horizon"),
    ] {
        check_range(number, range, &section.key(key), problems);
    }
    for (share, most, key) in [
        (raw.gross_margin, 1.0, "gross_margin"),
        (raw.discount_rate, 10.0, "discount_rate"),
        (raw.at_risk_within, 1.0, "at_risk_within"),
    ] {
        if !(0.0..=most).contains(&share) {
            let message = format!("expected a number from 0 to {most}, found `{share}`");
            let percent = share / 100.0;
            let is_percent = (0.0..=most).contains(&percent);
            let hint = is_percent.then(|| format!("{share} % is `{key}: {percent}`"));
            problems.push(section.key(key), message, hint);
        }
    }
    if raw.upsell_base == UpsellBase::Offered && sources.opportunities.is_none() {
        let hint = "map `sources.opportunities`, or leave `upsell_base` at `opening`".to_string();
        problems.push(
            section.key("upsell_base"),
            "no source tells what was offered",
            hint,
        );
    }
    if let Some(rule) = &raw.onboarding_rule {
        let tells_of_features = sources.usage_events.is_some() || sources.usage_features.is_some();
        let tells_of_hours = sources.usage_events.is_some()
            || sources.usage_sessions.is_some()
            || sources.usage_daily.is_some();
        let missing = if rule.features > 0 && !tells_of_features {
            Some((
                "no source tells of features used",
                "map `sources.usage_events`, or `sources.usage_features` beside `sources.usage_daily`",
            ))
        } else if !tells_of_hours {
            Some((
                "no source tells of hours used",
                "map `sources.usage_events`, `sources.usage_sessions` or `sources.usage_daily`",
            ))
        } else {
            None
        };
        if let Some((message, hint)) = missing {
            problems.push(section.key("onboarding_rule"), message, hint.to_string());
        }
        let path = section.key("onboarding_rule");
        check_range(
            rule.within_days,
            1..=3_660,
            &path.key("within_days"),
            problems,
        );
        if !(0.0..=100_000.0).contains(&rule.hours) {
            let message = format!("expected a number from 0 to 100000, found `{}`", rule.hours);
            problems.push(path.key("hours"), message, None);
        }
        if rule.features == 0 && rule.hours == 0.0 {
            let hint = "say how many `features`, or `hours`, or both".to_string();
            problems.push(
                path,
                "a rule that asks for nothing is met by everyone",
                hint,
            );
        }
    }
    if let Some(name) = &raw.ltv_segment {
        let path = section.key("ltv_segment");
        check_dimension(name, dimensions, &path, problems);
        if dimensions
            .get(name)
            .is_some_and(|dimension| dimension.reads("touch_model"))
        {
            let message = format!("`{name}` reads `touch_model`, whose rules may read the LTV");
            problems.push(
                path,
                message,
                Some("choose a dimension that is known before the LTV".to_string()),
            );
        } else if let Some(score) = SCORES.iter().find(|score| {
            let dimension = dimensions.get(name);
            dimension.is_some_and(|dimension| dimension.reads(score))
        }) {
            let message = format!("`{name}` reads `{score}`, which is not known before the LTV");
            let hint = "choose a dimension that is known before the LTV".to_string();
            problems.push(path, message, Some(hint));
        }
    }
    Policy {
        gross_margin: raw.gross_margin,
        amount: raw.amount,
        discounts: raw.discounts,
        past_due_grace_days: raw.past_due_grace_days,
        churn_at: raw.churn_at,
        involuntary_reasons: raw.involuntary_reasons.clone(),
        nrr_includes_reactivation: raw.nrr_includes_reactivation,
        ltv_churn_periods: raw.ltv_churn_periods,
        ltv_segment: raw.ltv_segment.clone(),
        mau_window: raw.mau_window,
        session_gap_minutes: raw.session_gap_minutes,
        cohort_max_age: raw.cohort_max_age,
        upsell_base: raw.upsell_base,
        crc_allocation: raw.crc_allocation,
        nps_window_days: raw.nps_window_days,
        community_window_days: raw.community_window_days,
        onboarding_window_days: raw.onboarding_window_days,
        onboarding_unit: raw.onboarding_unit,
        onboarding_rule: raw.onboarding_rule.clone(),
        small_sample: raw.small_sample,
        bootstrap_samples: raw.bootstrap_samples,
        discount_rate: raw.discount_rate,
        survival_horizon: raw.survival_horizon,
        at_risk_within: raw.at_risk_within,
    }
}
