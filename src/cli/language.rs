//! The two languages in which metrics are told of.

use crate::config::{Breakdown, Direction, Unit};
use crate::metrics::catalogue::{Interval, Metric};
use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    En,
    Ja,
}

impl Language {
    /// One of two texts.
    pub fn pick<'a>(self, english: &'a str, japanese: &'a str) -> &'a str {
        match self {
            Self::En => english,
            Self::Ja => japanese,
        }
    }

    pub fn label(self, metric: &Metric) -> &str {
        self.pick(&metric.label_en, &metric.label_ja)
    }

    pub fn description(self, metric: &Metric) -> &str {
        self.pick(&metric.description_en, &metric.description_ja)
    }

    pub fn unit(self, unit: Unit) -> &'static str {
        let (english, japanese) = match unit {
            Unit::Accounts => ("accounts", "社"),
            Unit::Users => ("users", "人"),
            Unit::Seats => ("seats", "シート"),
            Unit::Currency => ("currency", "金額"),
            Unit::Ratio => ("ratio", "比率"),
            Unit::Multiple => ("multiple", "倍"),
            Unit::Months => ("months", "か月"),
            Unit::Minutes => ("minutes", "分"),
            Unit::Count => ("count", "件"),
            Unit::Percent => ("percent", "%"),
            Unit::Points => ("points", "ポイント"),
            Unit::Hours => ("hours", "時間"),
            Unit::Days => ("days", "日"),
            Unit::Periods => ("periods", "期"),
        };
        self.pick(english, japanese)
    }

    pub fn good(self, good: Direction) -> &'static str {
        match good {
            Direction::Up => self.pick("up", "高いほど良い"),
            Direction::Down => self.pick("down", "低いほど良い"),
            Direction::Neutral => self.pick("neutral", "どちらでもない"),
        }
    }

    pub fn interval(self, interval: &Interval) -> String {
        match interval {
            Interval::Proportion => self.pick("Wilson, of a proportion", "比率（Wilson）"),
            Interval::Mean => self.pick("normal, of a mean", "平均（正規近似）"),
            Interval::Bootstrap => {
                self.pick("bootstrap by account", "アカウント単位のブートストラップ")
            }
            Interval::Through(id) => {
                return match self {
                    Self::En => format!("the formula at the bounds of `{id}`"),
                    Self::Ja => format!("`{id}` の上下限を式に代入"),
                };
            }
        }
        .to_owned()
    }

    /// What a metric of `kpi_breakdown` is told by.
    pub fn by(self, by: Breakdown) -> &'static str {
        match by {
            Breakdown::SurveyItem => self.pick("survey item", "アンケート項目"),
            Breakdown::Feature => self.pick("feature", "機能"),
            Breakdown::Phase => self.pick("phase", "フェーズ"),
        }
    }
}
