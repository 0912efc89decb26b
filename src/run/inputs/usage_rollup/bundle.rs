//! A few frames as the bytes of one file: each as Parquet, its length before it.

use polars::prelude::*;
use std::io::Cursor;

/// The frames in order.
pub fn encoded(frames: &mut [DataFrame]) -> PolarsResult<Vec<u8>> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.rechunk_mut();
        let at = bytes.len();
        bytes.extend(0u64.to_le_bytes());
        ParquetWriter::new(&mut bytes)
            .with_compression(ParquetCompression::Lz4Raw)
            .with_statistics(StatisticsOptions::empty())
            .finish(frame)?;
        let length = (bytes.len() - at - LENGTH) as u64;
        bytes[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
    }
    Ok(bytes)
}

/// As many frames as were written, each in one piece; `None` if these bytes are something else.
pub fn decoded<const N: usize>(mut bytes: &[u8]) -> Option<[DataFrame; N]> {
    let mut frames = Vec::with_capacity(N);
    while let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (own, others) = rest.split_at_checked(length)?;
        let mut frame = ParquetReader::new(Cursor::new(own)).finish().ok()?;
        frame.rechunk_mut();
        frames.push(frame);
        bytes = others;
    }
    frames.try_into().ok()
}

/// Bytes of a length.
const LENGTH: usize = 8;
