use super::beta_geometric::BetaGeometric;
use super::kaplan_meier::{Exits, Step, kaplan_meier, median};

/// A curve from the numbers that are left at ages 0, 1, 2, …
fn cohort(left: &[i64]) -> Vec<Step> {
    cohorts(&[left])
}

/// The same for several cohorts, each seen for as long as it has numbers.
fn cohorts(all: &[&[i64]]) -> Vec<Step> {
    let longest = all.iter().map(|left| left.len()).max().unwrap_or(0);
    let at_age = |age: usize| {
        let lost = |left: &&[i64]| match left.get(age) {
            Some(now) if age > 0 => left[age - 1] - now,
            _ => 0,
        };
        let unseen = |left: &&[i64]| if age + 1 == left.len() { left[age] } else { 0 };
        Exits {
            age: age as i64,
            events: all.iter().map(lost).sum(),
            censored: all.iter().map(unseen).sum(),
        }
    };
    kaplan_meier(&(0..longest).map(at_age).collect::<Vec<_>>())
}

/// A curve from durations; `+` marks those that were still going on.
fn durations(text: &str) -> Vec<Step> {
    let mut exits: Vec<Exits> = Vec::new();
    for word in text.split_whitespace() {
        let age = word.trim_end_matches('+').parse().unwrap();
        if exits.last().is_none_or(|exit| exit.age != age) {
            exits.push(Exits {
                age,
                ..Exits::default()
            });
        }
        let exit = exits.last_mut().unwrap();
        if word.ends_with('+') {
            exit.censored += 1;
        } else {
            exit.events += 1;
        }
    }
    kaplan_meier(&exits)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Fader and Hardie (2007), table 1: customers left of 1,000, by year.
const REGULAR: [i64; 8] = [1000, 631, 468, 382, 326, 289, 262, 241];
const HIGH_END: [i64; 8] = [1000, 869, 743, 653, 593, 551, 517, 491];

#[track_caller]
fn fitted(steps: &[Step]) -> BetaGeometric {
    BetaGeometric::fit(steps).expect("a fit")
}

#[test]
fn the_paper_s_parameters() {
    let regular = fitted(&cohort(&REGULAR));
    let high_end = fitted(&cohort(&HIGH_END));
    assert_eq!(
        (rounded(regular.alpha, 3), rounded(regular.beta, 3)),
        (0.704, 1.182)
    );
    assert_eq!(
        (rounded(high_end.alpha, 3), rounded(high_end.beta, 3)),
        (0.668, 3.806)
    );
}

/// Appendix B of the paper: the log-likelihood at α = β = 1, where its spreadsheet starts, and at the maximum (-1611.2). More digits:
/// the paper's example as run in R in "Projecting Customer Retention in R" (2022): 2115.546.
#[test]
fn the_paper_s_likelihood() {
    let steps = cohort(&HIGH_END);
    let start = BetaGeometric {
        alpha: 1.0,
        beta: 1.0,
    };
    assert_eq!(rounded(start.log_likelihood(&steps), 3), -2115.546);
    assert_eq!(rounded(fitted(&steps).log_likelihood(&steps), 1), -1611.2);
}

/// Appendix B: S(t) at α = β = 1 is 1 / (t + 1).
#[test]
fn survival_of_the_uniform_distribution() {
    let uniform = BetaGeometric {
        alpha: 1.0,
        beta: 1.0,
    };
    for (age, survival) in uniform.survival().take(11).enumerate() {
        assert!((survival - 1.0 / (age as f64 + 1.0)).abs() < 1e-15);
    }
}

/// Years 8 to 12 of the High End segment, and what the survivors of year 7 are worth at 10 % a year from their next renewal on:
/// as printed in the README of jdmaturen/shifted_beta_geometric_py, an implementation of the paper.
#[test]
fn projection_beyond_the_data() {
    let model = fitted(&cohort(&HIGH_END));
    let years: Vec<f64> = model
        .survival()
        .skip(8)
        .take(5)
        .map(|share| rounded(share, 3))
        .collect();
    assert_eq!(years, [0.460, 0.436, 0.414, 0.395, 0.378]);
    let survivors = BetaGeometric {
        beta: model.beta + 7.0,
        ..model
    };
    let from_next_renewal = (survivors.expected_lifetime(0.1).unwrap() - 1.0) * 1.1;
    assert_eq!(rounded(from_next_renewal, 3), 7.530);
}

/// The paper's claim: the projection stays near what came to be in years 8 to 12 (table 1), for both segments.
#[test]
fn projection_is_near_what_came() {
    let came = [
        (REGULAR, [223.0, 207.0, 194.0, 183.0, 173.0]),
        (HIGH_END, [468.0, 445.0, 427.0, 409.0, 394.0]),
    ];
    for (seen, later) in came {
        let projected = fitted(&cohort(&seen)).survival().skip(8);
        for (share, left) in projected.zip(later) {
            assert!((share - left / 1000.0).abs() < 0.017, "{share} {left}");
        }
    }
}

/// Fader and Hardie, "Fitting the sBG Model to Multi-Cohort Data" (2007): α = 3.80, β = 15.19, as quoted in the same README's tests.
#[test]
fn cohorts_of_different_ages() {
    let all: [&[i64]; 4] = [
        &[10000, 8000, 6480, 5307, 4391],
        &[10000, 8000, 6480, 5307],
        &[10000, 8000, 6480],
        &[10000, 8000],
    ];
    let model = fitted(&cohorts(&all));
    assert_eq!(
        (rounded(model.alpha, 2), rounded(model.beta, 2)),
        (3.80, 15.19)
    );
}

#[test]
fn no_fit() {
    let cases: [(&str, &[i64]); 8] = [
        ("nobody", &[]),
        ("no age beyond 0", &[10]),
        ("nobody churned", &[10, 10, 10]),
        ("all churned at once", &[10, 0]),
        ("one age tells of a rate, not of its fall", &[10, 5]),
        ("all churn at one rate", &[1000, 900, 810, 729]),
        ("the rate grows with age", &[100, 95, 80, 40, 5]),
        (
            "none churn after the first chance: α and β fall to 0",
            &[10, 5, 5, 5],
        ),
    ];
    for (case, left) in cases {
        assert_eq!(BetaGeometric::fit(&cohort(left)), None, "{case}");
    }
}

#[test]
fn everybody_churns_in_the_end() {
    // At risk 10, 5, 3, 2, 1: the model never reaches 0, but it fits.
    let steps = cohort(&[10, 5, 3, 2, 1, 0]);
    assert_eq!(steps[5].survival, 0.0);
    assert_eq!(steps[5].bounds, None);
    assert!(BetaGeometric::fit(&cohort(&[100, 99, 98, 0])).is_none());
    assert!(BetaGeometric::fit(&cohort(&[100, 30, 15, 9, 6, 4, 3, 2])).is_some());
}

/// Two maxima: one at β = ∞, one inside. The likelier one counts, found by trying a grid of α and β.
#[test]
fn the_likeliest_of_several_maxima() {
    let curve = |at_risk: &[i64], events: &[i64]| -> Vec<Step> {
        let exits = (0..at_risk.len()).map(|at| {
            let next = at_risk.get(at + 1).copied().unwrap_or(0);
            Exits {
                age: at as i64 + 1,
                events: events[at],
                censored: at_risk[at] - next - events[at],
            }
        });
        kaplan_meier(&exits.collect::<Vec<_>>())
    };
    let late = curve(
        &[7, 5, 5, 5, 5, 5, 5, 5, 4, 4],
        &[2, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    );
    let early = curve(&[6, 2, 2, 2, 2, 2, 2, 1], &[3, 0, 0, 0, 0, 0, 1, 1]);
    for steps in [late, early] {
        let values = || (-60..=60).map(|tenth| 10f64.powf(f64::from(tenth) / 10.0));
        let of_grid =
            values().flat_map(|alpha| values().map(move |beta| BetaGeometric { alpha, beta }));
        let best = of_grid
            .map(|model| model.log_likelihood(&steps))
            .fold(f64::MIN, f64::max);
        match BetaGeometric::fit(&steps) {
            Some(model) => assert!(model.log_likelihood(&steps) >= best),
            None => {
                let edge = BetaGeometric {
                    alpha: 1e6,
                    beta: 1e6,
                };
                assert!(edge.log_likelihood(&steps) <= best);
            }
        }
    }
}

/// The closed forms where there are some: no discount, and α = 1, β = 1: −(1 + r)·ln(r / (1 + r)).
#[test]
fn lifetime_in_closed_form() {
    let model = |alpha, beta| BetaGeometric { alpha, beta };
    assert_eq!(model(2.0, 2.0).expected_lifetime(0.0), Some(3.0));
    assert_eq!(model(1.0, 5.0).expected_lifetime(0.0), None);
    for rate in [10.0, 0.1, 0.008, 1e-4, 1e-8] {
        let closed = -(1.0 + rate) * f64::ln(rate / (1.0 + rate));
        let summed = model(1.0, 1.0).expected_lifetime(rate).unwrap();
        assert!(
            (summed / closed - 1.0).abs() < 1e-13,
            "{rate}: {summed} {closed}"
        );
    }
}

#[test]
fn lifetime_is_the_sum_of_the_series() {
    for (alpha, beta) in [
        (0.668, 3.806),
        (0.01, 0.02),
        (1e-6, 1e6),
        (1e6, 1e6),
        (3.0, 1e-6),
        (20.0, 500.0),
    ] {
        for rate in [0.00797414042890376_f64, 0.1, 10.0] {
            let mut discount = 1.0;
            let mut sum = 0.0;
            for survival in (BetaGeometric { alpha, beta }).survival().take(8000) {
                sum += survival * discount;
                discount /= 1.0 + rate;
            }
            let summed = BetaGeometric { alpha, beta }
                .expected_lifetime(rate)
                .unwrap();
            assert!(
                (summed / sum - 1.0).abs() < 1e-12,
                "{alpha} {beta} {rate}: {summed} {sum}"
            );
        }
    }
}

/// A discount so small that no depth will do must end all the same.
#[test]
fn lifetime_that_cannot_be_told() {
    let slow = BetaGeometric {
        alpha: 0.5,
        beta: 2.0,
    };
    assert_eq!(slow.expected_lifetime(1e-14), None);
}

/// Remission under 6-MP (Freireich et al. 1963), the usual textbook example; survival and standard deviation as printed in the manual of
/// NAG routine G12AAF, whose standard deviations we read back from the bounds.
#[test]
fn kaplan_meier_of_the_leukaemia_trial() {
    let steps = durations("6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+");
    let printed = [
        (6, 21, 0.857, 0.076),
        (7, 17, 0.807, 0.087),
        (10, 15, 0.753, 0.096),
        (13, 12, 0.690, 0.107),
        (16, 11, 0.627, 0.114),
        (22, 7, 0.538, 0.128),
        (23, 6, 0.448, 0.135),
    ];
    let events: Vec<_> = steps.iter().filter(|step| step.events > 0).collect();
    assert_eq!(events.len(), printed.len());
    for (step, (age, at_risk, survival, deviation)) in events.into_iter().zip(printed) {
        let (lower, upper) = step.bounds.unwrap();
        let reach = (lower.ln() / upper.ln()).ln() / 2.0;
        let read_back = reach / 1.959963984540054 * step.survival * step.survival.ln().abs();
        assert_eq!((step.age, step.at_risk), (age, at_risk));
        assert_eq!(
            (rounded(step.survival, 3), rounded(read_back, 3)),
            (survival, deviation)
        );
    }
    assert_eq!(median(&steps), Some(23));
}

/// R's survfit(conf.type = "log-log") of the control group of the glioma data (package coin), as kept in the tests of the Python package
/// lifelines (test_kmf_confidence_intervals_output_against_R). Six patients, of whom two outlive the last event.
#[test]
fn bounds_as_r_prints_them() {
    let steps = durations("9 19 32 34 53+ 53+");
    let printed = [
        (0.833, 0.2731, 0.975),
        (0.667, 0.1946, 0.904),
        (0.500, 0.1109, 0.804),
        (0.333, 0.0461, 0.676),
    ];
    for (step, (survival, lower, upper)) in steps.iter().zip(printed) {
        let bounds = step.bounds.unwrap();
        assert_eq!(rounded(step.survival, 3), survival);
        assert_eq!((rounded(bounds.0, 4), rounded(bounds.1, 3)), (lower, upper));
    }
    // Exactly one half at 32, which a product of fractions may miss by its last bit.
    assert_eq!(median(&steps), Some(32));
}

#[test]
fn curves_without_much_in_them() {
    assert_eq!(kaplan_meier(&[]), []);
    assert_eq!(median(&[]), None);
    let one = durations("3");
    assert_eq!(
        (one[0].survival, one[0].bounds, median(&one)),
        (0.0, None, Some(3))
    );
    let one_that_stays = durations("3+");
    assert_eq!(one_that_stays[0].bounds, Some((1.0, 1.0)));
    assert_eq!(median(&one_that_stays), None);
    // Who is done on the day it begins counts too.
    assert_eq!(median(&durations("0 0 5+")), Some(0));
}

/// Survival falls, its bounds hold it, a projection lies in (0, 1]: for any counts.
#[test]
fn any_counts() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut below = |limit: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as i64 % limit
    };
    for _ in 0..2_000 {
        let ages = 1 + below(12);
        let size = 1 + below(40);
        let exits: Vec<Exits> = (0..ages)
            .map(|age| Exits {
                age,
                events: if age == 0 {
                    0
                } else {
                    below(size) / (1 + below(4))
                },
                censored: below(size) / (1 + below(4)),
            })
            .collect();
        let steps = kaplan_meier(&exits);
        let mut before = 1.0;
        for step in &steps {
            assert!(step.survival <= before && step.survival >= 0.0);
            before = step.survival;
            if let Some((lower, upper)) = step.bounds {
                assert!(
                    0.0 <= lower
                        && lower <= step.survival
                        && step.survival <= upper
                        && upper <= 1.0
                );
            }
        }
        let Some(model) = BetaGeometric::fit(&steps) else {
            continue;
        };
        assert_eq!(BetaGeometric::fit(&steps), Some(model));
        let likelihood = model.log_likelihood(&steps);
        for (alpha, beta) in [
            (1.01, 1.0),
            (0.99, 1.0),
            (1.0, 1.01),
            (1.0, 0.99),
            (1.01, 1.01),
            (10.0, 10.0),
        ] {
            let beside = BetaGeometric {
                alpha: model.alpha * alpha,
                beta: model.beta * beta,
            };
            assert!(likelihood >= beside.log_likelihood(&steps) - 1e-9);
        }
        let projected: Vec<f64> = model.survival().take(50).collect();
        assert!(
            projected
                .windows(2)
                .all(|pair| pair[1] < pair[0] && pair[1] > 0.0)
        );
        let lifetime = model.expected_lifetime(0.01).unwrap();
        assert!((1.0..=101.0).contains(&lifetime));
    }
}
