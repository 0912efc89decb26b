//! Amounts put onto accounts by weight, exactly: no unit is lost, none is made (docs/definitions.md § 10).

/// Splits `amount` in proportion to `weights` by largest remainder; of equal remainders the first gets the unit. The parts
/// add up to `amount`. `None` if there is no weight to go by, or the numbers are too large to be multiplied.
pub fn largest_remainder(amount: i128, weights: &[i128]) -> Option<Vec<i128>> {
    let total: i128 = weights
        .iter()
        .try_fold(0i128, |sum, weight| sum.checked_add(*weight))?;
    if total <= 0 || weights.iter().any(|weight| *weight < 0) {
        return None;
    }
    let size = amount.checked_abs()?;
    let products: Option<Vec<i128>> = weights
        .iter()
        .map(|weight| size.checked_mul(*weight))
        .collect();
    let products = products?;
    let mut parts: Vec<i128> = products.iter().map(|product| product / total).collect();
    let left_over = size - parts.iter().sum::<i128>();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|&at| std::cmp::Reverse(products[at] % total));
    for &at in by_remainder.iter().take(usize::try_from(left_over).ok()?) {
        parts[at] += 1;
    }
    let sign = amount.signum();
    Some(parts.into_iter().map(|part| sign * part).collect())
}

#[cfg(test)]
mod tests {
    use super::largest_remainder;

    #[test]
    fn equal_parts_give_what_is_left_over_to_the_first() {
        assert_eq!(largest_remainder(100, &[1, 1, 1]), Some(vec![34, 33, 33]));
        assert_eq!(
            largest_remainder(-100, &[1, 1, 1]),
            Some(vec![-34, -33, -33])
        );
        assert_eq!(largest_remainder(2, &[1, 1, 1]), Some(vec![1, 1, 0]));
    }

    #[test]
    fn the_largest_remainder_is_served_first() {
        // 10 · 1/6 = 1.67, 10 · 2/6 = 3.33, 10 · 3/6 = 5.
        assert_eq!(largest_remainder(10, &[1, 2, 3]), Some(vec![2, 3, 5]));
        assert_eq!(largest_remainder(7, &[0, 5]), Some(vec![0, 7]));
    }

    #[test]
    fn nothing_to_go_by_takes_nothing() {
        assert_eq!(largest_remainder(7, &[]), None);
        assert_eq!(largest_remainder(7, &[0, 0]), None);
        assert_eq!(largest_remainder(i128::MAX, &[2, 2]), None);
    }

    #[test]
    fn parts_add_up_whatever_the_weights() {
        let mut seed = 7u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            i128::from((seed >> 33) % below)
        };
        for _ in 0..1_000 {
            let amount = next(1_000_000_000) - 500_000_000;
            let count = next(40) + 1;
            let weights: Vec<i128> = (0..count).map(|_| next(100_000)).collect();
            match largest_remainder(amount, &weights) {
                Some(parts) => assert_eq!(parts.iter().sum::<i128>(), amount),
                None => assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }
    }
}
