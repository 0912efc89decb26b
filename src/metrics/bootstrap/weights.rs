//! How often an account counts in a draw. The same everywhere and always: weights are made of names alone.

use md5::{Digest, Md5};

/// As many as three hexadecimal digits tell apart.
pub(super) const BUCKETS: usize = 4096;

/// Of 65536 numbers, how many are below each step of the Poisson distribution of mean 1.
const STEPS: [u16; 8] = [24109, 48219, 60273, 64292, 65296, 65497, 65531, 65535];

/// The accounts that are drawn together: those whose MD5 begins with the same three hexadecimal digits.
pub(super) fn bucket(account_id: &str) -> usize {
    let hash = Md5::digest(account_id.as_bytes());
    usize::from(hash[0]) << 4 | usize::from(hash[1] >> 4)
}

/// How often a bucket counts in each draw.
pub(super) fn weights(bucket: usize, samples: usize) -> Vec<f64> {
    let mut weights = Vec::with_capacity(samples + 8);
    for eight in 0..samples.div_ceil(8) {
        let hash = Md5::digest(format!("cskpi:{bucket:03x}:{eight}").as_bytes());
        weights.extend(hash.chunks_exact(2).map(|pair| {
            let number = u16::from_be_bytes([pair[0], pair[1]]);
            STEPS.iter().filter(|step| **step <= number).count() as f64
        }));
    }
    weights.truncate(samples);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_what_md5sum_prints() {
        // printf acme | md5sum: 53bce4f1dfa0fe8e…
        assert_eq!(bucket("acme"), 0x53b);
    }

    #[test]
    fn fewer_samples_are_the_first_of_more() {
        assert_eq!(weights(0x3f7, 13), weights(0x3f7, 200)[..13]);
        assert!(weights(7, 0).is_empty());
    }

    #[test]
    fn weights_have_mean_and_variance_one() {
        let all: Vec<f64> = (0..BUCKETS)
            .flat_map(|bucket| weights(bucket, 200))
            .collect();
        let count = all.len() as f64;
        let mean = all.iter().sum::<f64>() / count;
        let variance = all.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>() / count;
        // 819,200 draws: four standard errors are 0.0044 of the mean and 0.0077 of the variance.
        assert!((mean - 1.0).abs() < 0.0044, "{mean}");
        assert!((variance - 1.0).abs() < 0.0077, "{variance}");
    }
}
