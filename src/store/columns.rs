//! Many rows of one statement on PostgreSQL: an array for each column, so that one text serves any number of rows.
//!
//! A list of values would be read and planned anew, thousands of parameters each time, and takes the server longer than writing
//! the rows.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

/// One value; a column holds values of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(Option<String>),
    Integer(Option<i64>),
    Instant(Option<DateTime<Utc>>),
    Truth(Option<bool>),
}

macro_rules! cells {
    ($($kind:ident: $type:ty => $to:expr),+ $(,)?) => {$(
        impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self::$kind(Some(value).map($to))
            }
        }
        impl From<Option<$type>> for Cell {
            fn from(value: Option<$type>) -> Self {
                Self::$kind(value.map($to))
            }
        }
    )+};
}

cells! {
    Text: String => std::convert::identity,
    Text: &str => str::to_owned,
    Integer: i64 => std::convert::identity,
    Integer: i32 => i64::from,
    Instant: DateTime<Utc> => std::convert::identity,
    Truth: bool => std::convert::identity,
}

impl Cell {
    fn array(&self) -> &'static str {
        match self {
            Self::Text(_) => "TEXT[]",
            Self::Integer(_) => "BIGINT[]",
            Self::Instant(_) => "TIMESTAMPTZ[]",
            Self::Truth(_) => "BOOLEAN[]",
        }
    }
}

/// Rows on their way into a statement.
#[derive(Debug, Default)]
pub(super) struct Columns {
    columns: Vec<Vec<Cell>>,
}

/// The cells of one row, from the left.
#[derive(Debug)]
pub(super) struct Row<'a> {
    columns: &'a mut Columns,
    next: usize,
}

impl Row<'_> {
    pub(super) fn push_bind(&mut self, value: impl Into<Cell>) -> &mut Self {
        match self.columns.columns.get_mut(self.next) {
            Some(column) => column.push(value.into()),
            None => self.columns.columns.push(vec![value.into()]),
        }
        self.next += 1;
        self
    }
}

impl Columns {
    pub(super) fn row(&mut self) -> Row<'_> {
        Row { columns: self, next: 0 }
    }

    /// `head`, the rows as a table, `tail`.
    pub(super) fn text(&self, head: &str, tail: &str) -> AssertSqlSafe<String> {
        let kinds = self.columns.iter().filter_map(|column| column.first());
        let arrays: Vec<String> =
            kinds.enumerate().map(|(index, cell)| format!("${}::{}", index + 1, cell.array())).collect();
        AssertSqlSafe(format!("{head}SELECT * FROM UNNEST({}) AS rows{tail}", arrays.join(", ")))
    }

    /// The statement with every column bound.
    pub(super) fn bind(self, text: AssertSqlSafe<String>) -> Query<'static, Postgres, PgArguments> {
        macro_rules! array {
            ($query:ident, $column:ident, $kind:ident) => {
                $query.bind(
                    $column
                        .into_iter()
                        .map(|cell| if let Cell::$kind(value) = cell { value } else { None })
                        .collect::<Vec<_>>(),
                )
            };
        }
        let mut query = sqlx::query::<Postgres>(text);
        for column in self.columns {
            query = match column.first() {
                Some(Cell::Text(_)) => array!(query, column, Text),
                Some(Cell::Integer(_)) => array!(query, column, Integer),
                Some(Cell::Instant(_)) => array!(query, column, Instant),
                Some(Cell::Truth(_)) => array!(query, column, Truth),
                None => query,
            };
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_one_array_however_many_rows() {
        let mut columns = Columns::default();
        for n in 0..3_i64 {
            columns.row().push_bind(n).push_bind(format!("row {n}")).push_bind((n == 1).then_some(true));
        }
        let text = columns.text("INSERT INTO t ", " ON CONFLICT DO NOTHING").0;
        assert_eq!(
            text,
            "INSERT INTO t SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::BOOLEAN[]) AS rows ON CONFLICT DO NOTHING"
        );
        let nulls = vec![Cell::Truth(None), Cell::Truth(Some(true)), Cell::Truth(None)];
        assert_eq!(columns.columns[2], nulls);
    }
}
