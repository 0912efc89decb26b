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
