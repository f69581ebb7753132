//! What the database could do at best: the rows of a cycle in bare statements, on the daemon's own schema, without its code.
//!
//! SQLite: a prepared statement, stepped a row at a time, in one transaction that is synced in full. PostgreSQL: one
//! `INSERT .. SELECT FROM UNNEST`. Both write the quotes, the row of the cycle, and its points as one value. SQLite once more with a row
//! for each point instead, as who keeps a history in rows has it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellwether::config::DatabaseTarget;
use bellwether::store::{Access, Store};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;

/// Bytes a point of a cycle's value takes.
const POINT: usize = 8;

const SQLITE_QUOTES: &str = "INSERT INTO quotes (symbol, quoted_at, price, previous_close, open, high, low, bid, ask, volume, flags, \
     cycle_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (symbol) DO UPDATE SET quoted_at = excluded.quoted_at, \
     price = excluded.price, previous_close = excluded.previous_close, open = excluded.open, high = excluded.high, \
     low = excluded.low, bid = excluded.bid, ask = excluded.ask, volume = excluded.volume, flags = excluded.flags, \
     cycle_id = excluded.cycle_id WHERE excluded.quoted_at >= quotes.quoted_at";

const POSTGRES_QUOTES: &str = "INSERT INTO quotes (symbol, quoted_at, price, previous_close, open, high, low, bid, ask, volume, \
     flags, cycle_id) SELECT u.*, $12::text FROM UNNEST($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], \
     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::int[]) AS u ON CONFLICT (symbol) DO UPDATE SET \
     quoted_at = excluded.quoted_at, price = excluded.price, previous_close = excluded.previous_close, open = excluded.open, \
     high = excluded.high, low = excluded.low, bid = excluded.bid, ask = excluded.ask, volume = excluded.volume, \
     flags = excluded.flags, cycle_id = excluded.cycle_id WHERE excluded.quoted_at >= quotes.quoted_at";

/// A round: its instant, and a price for each symbol.
struct Round {
    at: DateTime<Utc>,
    cycle: String,
    prices: Vec<i64>,
}

impl Round {
    fn new(symbols: usize, round: usize) -> Self {
        let prices =
            (0..symbols).map(|index| i64::try_from(50_000 + index * 37 % 3_000_000 + round).unwrap()).collect();
        let at = Utc::now() + TimeDelta::seconds(i64::try_from(round).unwrap());
        Self { at, cycle: uuid::Uuid::now_v7().to_string(), prices }
    }
}

/// Writes `rounds` cycles of `symbols` and prints what one took.
pub async fn measure(url: &str, symbols: usize, rounds: usize) {
    let names: Vec<String> = (0..symbols).map(super::stub::symbol).collect();
    migrated(url).await;
    // The first fills an empty table, which no later one does.
    let told = |mut times: Vec<Duration>| super::show(times.split_off(1));
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let points = told(sqlite(path, &names, rounds, false));
            println!("{points}; with a row for each point {}", told(sqlite(path, &names, rounds, true)));
        }
        None => println!("{}", told(postgres(url, &names, rounds).await)),
    }
}

async fn migrated(url: &str) {
    let target = match url.strip_prefix("sqlite:") {
        Some(path) => DatabaseTarget::Sqlite(PathBuf::from(path)),
        None => DatabaseTarget::Postgres(url.to_owned().into()),
    };
    let store = Store::open(&target, Access::Writer, 2, Duration::from_secs(10)).await.unwrap();
    store.migrate().await.unwrap();
    store.close().await;
}

fn sqlite(path: &str, names: &[String], rounds: usize, in_rows: bool) -> Vec<Duration> {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;").unwrap();
    let rows = "CREATE TABLE IF NOT EXISTS floor_points (slot TEXT, symbol_id INTEGER, price INTEGER, volume INTEGER, \
         PRIMARY KEY (slot, symbol_id)) WITHOUT ROWID;";
    connection.execute_batch(rows).unwrap();
    // Newer than what the other form has written, or nothing would be.
    let first = if in_rows { 10 * rounds } else { 0 };
    let rounds = (first..=first + rounds).map(|round| Round::new(names.len(), round));
    rounds.map(|round| sqlite_round(&mut connection, names, &round, in_rows)).collect()
}

fn sqlite_round(connection: &mut rusqlite::Connection, names: &[String], round: &Round, in_rows: bool) -> Duration {
    let points = vec![7_u8; names.len() * POINT];
    let began = Instant::now();
    let at = round.at.to_rfc3339();
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    {
        let mut quote = transaction.prepare(SQLITE_QUOTES).unwrap();
        for (name, price) in names.iter().zip(&round.prices) {
            quote
                .execute(rusqlite::params![
                    name,
                    at,
                    price,
                    price - 100,
                    price - 50,
                    price + 70,
                    price - 70,
                    price - 1,
                    price + 1,
                    price * 3,
                    0,
                    round.cycle
                ])
                .unwrap();
        }
        let count = i64::try_from(names.len()).unwrap();
        transaction
            .execute(
                "INSERT INTO cycles (id, slot, source, simulated, delayed, as_of, finished_at, expected, fresh, failed, cause) \
                 VALUES (?, ?, 'floor', 0, 0, ?, ?, ?, ?, 0, NULL)",
                rusqlite::params![round.cycle, at, at, at, count, count],
            )
            .unwrap();
        if in_rows {
            let sql = "INSERT INTO floor_points (slot, symbol_id, price, volume) VALUES (?, ?, ?, ?)";
            let mut point = transaction.prepare(sql).unwrap();
            for (id, price) in round.prices.iter().enumerate() {
                point.execute(rusqlite::params![at, i64::try_from(id).unwrap(), price, price * 3]).unwrap();
            }
        }
        let points = if in_rows { Vec::new() } else { points };
        transaction
            .execute(
                "INSERT INTO cycle_points (slot, finished_at, session, points) VALUES (?, ?, '2027-03-15', ?)",
                rusqlite::params![at, at, points],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
    began.elapsed()
}

async fn postgres(url: &str, names: &[String], rounds: usize) -> Vec<Duration> {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let mut times = Vec::new();
    for round in 0..=rounds {
        times.push(postgres_round(&mut connection, names, &Round::new(names.len(), round)).await);
    }
    times
}

async fn postgres_round(connection: &mut sqlx::PgConnection, names: &[String], round: &Round) -> Duration {
    let points = vec![7_u8; names.len() * POINT];
    let began = Instant::now();
    let column = |change: fn(i64) -> i64| round.prices.iter().map(|price| change(*price)).collect::<Vec<i64>>();
    let mut transaction = connection.begin().await.unwrap();
    let quotes = sqlx::query(POSTGRES_QUOTES)
        .bind(names)
        .bind(vec![round.at; names.len()])
        .bind(column(|price| price))
        .bind(column(|price| price - 100))
        .bind(column(|price| price - 50))
        .bind(column(|price| price + 70))
        .bind(column(|price| price - 70))
        .bind(column(|price| price - 1))
        .bind(column(|price| price + 1))
        .bind(column(|price| price * 3))
        .bind(vec![0_i32; names.len()])
        .bind(&round.cycle);
    quotes.execute(&mut *transaction).await.unwrap();
    let count = i64::try_from(names.len()).unwrap();
    let cycle = sqlx::query(
        "INSERT INTO cycles (id, slot, source, simulated, delayed, as_of, finished_at, expected, fresh, failed, cause) \
         VALUES ($1, $2, 'floor', false, false, $2, $2, $3, $3, 0, NULL)",
    );
    cycle.bind(&round.cycle).bind(round.at).bind(count).execute(&mut *transaction).await.unwrap();
    let blob =
        sqlx::query("INSERT INTO cycle_points (slot, finished_at, session, points) VALUES ($1, $1, '2027-03-15', $2)");
    blob.bind(round.at).bind(points).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    began.elapsed()
}
