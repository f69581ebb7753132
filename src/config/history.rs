//! How long the past is kept.

use super::reader::Reader;

/// How long the past is kept, in days. Daily bars are kept for ever.
#[derive(Debug, Clone, Copy)]
pub struct HistoryConfig {
    /// The points of each cycle.
    pub points_days: u16,
    /// Bars of a quarter of an hour.
    pub bars_15m_days: u16,
}

pub(super) fn read(reader: &mut Reader<'_>) -> HistoryConfig {
    HistoryConfig {
        points_days: reader.integer("history.points_days", 7..=3_650),
        bars_15m_days: reader.integer("history.bars_15m_days", 7..=3_650),
    }
}
