//! The shifted beta-geometric model of contractual churn (Fader and Hardie 2007, "How to project customer retention").
//!
//! Every customer leaves at the end of a period with a probability of its own, which never changes; over the customers it
//! has a Beta(α, β) distribution. Who is likely to leave leaves first, so the rate among those who remain falls with age:
//! at age t it is α / (α + β + t − 1), whose odds are α : (β + t − 1).

use super::kaplan_meier::Step;
use argmin::core::{CostFunction, Error, Executor};
use argmin::solver::brent::BrentRoot;

/// The two parameters of the distribution, both above 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaGeometric {
    pub alpha: f64,
    pub beta: f64,
}

/// A maximum beyond these is none: there the likelihood only nears a limit.
const SMALLEST: f64 = 1e-6;
const LARGEST: f64 = 1e6;

impl BetaGeometric {
    /// The parameters under which the steps of a curve are likeliest; none where there are no such: if nobody churned or
    /// nobody stayed, or if churn does not fall with age, so that one rate for all (β → ∞) is likelier than any Beta.
    ///
    /// Ages follow one another without a gap; those below 1 tell nothing. Nothing here is random: the same counts give the
    /// same bits.
    pub fn fit(steps: &[Step]) -> Option<Self> {
        let observed = Observed::new(steps)?;
        let (lowest, highest) = (SMALLEST.ln(), LARGEST.ln());
        // The likeliest α is known for any β, so one number is left to be found. It is not always the only maximum.
        let brackets = observed.brackets(lowest, highest).into_iter();
        let fits = brackets.filter_map(|bracket| observed.maximum(bracket));
        let likeliest = fits.max_by(|one, other| {
            let [one, other] = [one, other].map(|fit| observed.log_likelihood(*fit));
            one.total_cmp(&other)
        })?;
        const ROUNDING: f64 = 1e-9;
        let is_beaten = [lowest, highest].into_iter().any(|edge| {
            let at_edge = observed.log_likelihood(observed.fit_with(edge.exp()));
            at_edge > observed.log_likelihood(likeliest) + ROUNDING
        });
        let is_inside = (SMALLEST..=LARGEST).contains(&likeliest.alpha);
        (is_inside && !is_beaten).then_some(likeliest)
    }

    /// ln of the probability of all that the steps of a curve tell.
    pub fn log_likelihood(self, steps: &[Step]) -> f64 {
        Observed::new(steps).map_or(0.0, |observed| observed.log_likelihood(self))
    }

    /// S(0), S(1), … without end: the expected share of customers at each age.
    pub fn survival(self) -> impl Iterator<Item = f64> {
        let rest = (0..).scan(1.0, move |survival, age: i32| {
            let stay = self.beta + f64::from(age);
            *survival *= stay / (self.alpha + stay);
            Some(*survival)
        });
        std::iter::once(1.0).chain(rest)
    }

    /// Σ S(t) / (1 + rate)^t over all t from 0: the periods that a new customer is worth today. None where the sum has no
    /// end (nothing is discounted and α ≤ 1), or decays too slowly to be told.
    ///
    /// With v = 1 / (1 + rate) and X, the chance to stay, distributed as Beta(β, α), it is the mean of 1 / (1 − vX). Such a mean
    /// is a continued fraction in the canonical moments g₁, g₂, … of X. Each lies in [0, 1], and the value grows with the
    /// next one; so what is known of n moments bounds the value from below with 0 for the next, from above with 1, and the
    /// fraction is taken as deep as it needs for the two to meet. All of its terms are positive: nothing cancels out.
    pub fn expected_lifetime(self, rate: f64) -> Option<f64> {
        let Self { alpha, beta } = self;
        if rate <= 0.0 {
            return (alpha > 1.0).then(|| (alpha + beta - 1.0) / (alpha - 1.0));
        }
        const DEEPEST: u32 = 1 << 20;
        let mut moments = 16;
        while moments <= DEEPEST {
            let lowest = self.lifetime_with(rate, moments, 0.0);
            let highest = self.lifetime_with(rate, moments, 1.0);
            if highest - lowest <= 1e-14 * highest {
                return Some(lowest + (highest - lowest) / 2.0);
            }
            moments *= 2;
        }
        None
    }

    /// The mean of 1 / (1 − vX) if X had its own canonical moments up to the n-th, and then this one.
    fn lifetime_with(self, rate: f64, moments: u32, next: f64) -> f64 {
        let sum = self.alpha + self.beta;
        let lost = rate / (1.0 + rate);
        let mut inverse = 1.0 - next * (1.0 - lost);
        for n in (1..=moments).rev() {
            let half = f64::from(n / 2);
            let moment = match n % 2 {
                1 => (self.beta + half) / (sum + 2.0 * half),
                _ => half / (sum + 2.0 * half - 1.0),
            };
            let rest = (1.0 - moment) * inverse;
            inverse = (rest + moment * lost) / (rest + moment);
        }
        1.0 / inverse
    }
}

/// One age from 1 on: who could churn, who did, and the periods lived through before.
struct Age {
    at_risk: f64,
    churned: f64,
    before: f64,
}

struct Observed {
    ages: Vec<Age>,
    churned: f64,
}

impl Observed {
    /// None if nobody churned, or nobody stayed.
    fn new(steps: &[Step]) -> Option<Self> {
        let aged = steps.iter().filter(|step| step.age >= 1);
        let age = |step: &Step| Age {
            at_risk: step.at_risk as f64,
            churned: step.events as f64,
            before: (step.age - 1) as f64,
        };
        let ages: Vec<Age> = aged.map(age).collect();
        let at_risk: f64 = ages.iter().map(|age| age.at_risk).sum();
        let churned: f64 = ages.iter().map(|age| age.churned).sum();
        (0.0 < churned && churned < at_risk).then_some(Self { ages, churned })
    }

    fn log_likelihood(&self, BetaGeometric { alpha, beta }: BetaGeometric) -> f64 {
        let of_age = |age: &Age| {
            let stay = beta + age.before;
            let churn = age.churned * (alpha / (alpha + stay)).ln();
            churn + (age.at_risk - age.churned) * (stay / (alpha + stay)).ln()
        };
        self.ages.iter().map(of_age).sum()
    }

    /// The likeliest parameters with this β: those that expect as many to churn as did.
    fn fit_with(&self, beta: f64) -> BetaGeometric {
        // The expected number grows with α and bends downwards, so that Newton's steps from 0 never pass the solution.
        let mut alpha = 0.0;
        for _ in 0..200 {
            let (mut missing, mut slope) = (self.churned, 0.0);
            for age in &self.ages {
                let stay = beta + age.before;
                missing -= age.at_risk * alpha / (alpha + stay);
                slope += age.at_risk * stay / (alpha + stay).powi(2);
            }
            let next = alpha + missing / slope;
            if next <= alpha {
                break;
            }
            alpha = next;
        }
        BetaGeometric { alpha, beta }
    }

    /// How much later the model expects churn than it came, with this ln β and the likeliest α for it, in [−1, 1]. The
    /// log-likelihood rises with β while this is negative, and falls while it is positive.
    fn lateness(&self, ln_beta: f64) -> f64 {
        let BetaGeometric { alpha, beta } = self.fit_with(ln_beta.exp());
        let (mut late, mut all) = (0.0, 0.0);
        for age in &self.ages {
            let stay = beta + age.before;
            let expected = age.at_risk * alpha / (alpha + stay);
            late += age.before / stay * (expected - age.churned);
            all += age.before / stay * (expected + age.churned);
        }
        if all > 0.0 { late / all } else { 0.0 }
    }

    /// Intervals of ln β that hold a maximum: the likelihood rises at the lower end and falls at the upper one.
    fn brackets(&self, lowest: f64, highest: f64) -> Vec<(f64, f64)> {
        const CELLS: i32 = 48;
        // Where all churn at one rate, what is left is rounding.
        const ROUNDING: f64 = 1e-12;
        let mut brackets = Vec::new();
        let mut rising = None;
        for cell in 0..=CELLS {
            let ln_beta = lowest + (highest - lowest) * f64::from(cell) / f64::from(CELLS);
            let lateness = self.lateness(ln_beta);
            if lateness < -ROUNDING {
                rising = Some(ln_beta);
            } else if lateness > ROUNDING {
                brackets.extend(rising.take().map(|from| (from, ln_beta)));
            }
        }
        brackets
    }

    /// The maximum in a bracket: where the likelihood stops rising. Brent's method needs no more than a sign at either end.
    fn maximum(&self, (from, to): (f64, f64)) -> Option<BetaGeometric> {
        let solver = BrentRoot::new(from, to, f64::EPSILON);
        let executor = Executor::new(self, solver).configure(|state| state.max_iters(500));
        let found = executor.timer(false).run().ok()?;
        let ln_beta = found.state.best_param?;
        Some(self.fit_with(ln_beta.exp()))
    }
}

impl CostFunction for &Observed {
    type Param = f64;
    type Output = f64;

    fn cost(&self, ln_beta: &f64) -> Result<f64, Error> {
        Ok(self.lateness(*ln_beta))
    }
}
