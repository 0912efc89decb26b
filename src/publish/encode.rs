//! Frames as bytes of Parquet files, and back. The same rows give the same bytes.

use super::PublishError;
use crate::config::Compression;
use crate::storage::Store;
use polars::prelude::*;

/// Rows per row group: what readers split their work by.
const ROW_GROUP_ROWS: usize = 122_880;

pub fn encoded(frame: &DataFrame, compression: Compression) -> PolarsResult<Vec<u8>> {
    let mut frame = frame.clone();
    frame.rechunk_mut();
    let mut bytes = Vec::new();
    let compression = match compression {
        Compression::Zstd => ParquetCompression::Zstd(None),
        Compression::Snappy => ParquetCompression::Snappy,
        Compression::Uncompressed => ParquetCompression::Uncompressed,
    };
    ParquetWriter::new(&mut bytes)
        .with_compression(compression)
        .with_row_group_size(Some(ROW_GROUP_ROWS))
        .with_statistics(StatisticsOptions::default())
        .finish(&mut frame)?;
    Ok(bytes)
}

/// A published file; `None` if there is none.
pub fn published(store: &dyn Store, key: &str) -> Result<Option<DataFrame>, PublishError> {
    let Some((bytes, _)) = store.read(key)? else {
        return Ok(None);
    };
    let read = ParquetReader::new(std::io::Cursor::new(bytes)).finish();
    read.map(Some).map_err(|source| PublishError::Published {
        path: store.shown(key),
        source,
    })
}
