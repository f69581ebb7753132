//! The answers of `/api/v1` about the market: one name for each thing, and only what is asked for.

mod cursor;
mod field;
mod page;
mod query;
mod render;
mod stats;

pub use cursor::Cursor;
pub use field::Field;
pub use page::{Page, page};
pub use query::{MOST_ROWS, PARAMETERS, QueryError, QuotesQuery, parse_fields};
pub use render::{Format, quote, quotes};
pub use stats::{event, stats};
