//! The answers that are asked for most, rendered once a cycle.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::rows::{Active, Leader, MostTraded, Mover, Ranked, Unknown, rows};
use super::{Body, Listing, MarketPast, Meta, Quote, Ranking, SectorStatistics, Snapshot, StateId, Statistics, v1};

/// Rows of each list in the statistics.
const OVERVIEW_ROWS: usize = 5;

/// Rows of a ranking where the client names no limit, and of each list of what is trending.
pub const DEFAULT_RANKING_ROWS: usize = 10;

/// How old a quote may be to count as a recent update.
const RECENT: TimeDelta = TimeDelta::hours(24);

/// The hot answers of one published state.
#[derive(Debug, Clone)]
pub struct Bodies {
    /// `GET /api/market-stats/`.
    pub market_stats: Body,
    /// `GET /api/stocks/top-gainers/` without a limit.
    pub top_gainers: Body,
    /// `GET /api/stocks/top-losers/` without a limit.
    pub top_losers: Body,
    /// `GET /api/stocks/most-active/` without a limit.
    pub most_active: Body,
    /// `GET /api/trending/`.
    pub trending: Body,
    /// `GET /api/statistics/`.
    pub statistics: Body,
    /// `GET /api/stats/total-tickers/`.
    pub total_tickers: Body,
    /// `GET /api/stats/gainers-losers/`.
    pub gainers_losers: Body,
    /// `GET /api/v1/stats`.
    pub stats: Body,
    /// The event that tells of this state on `GET /api/v1/stream`.
    pub event: Bytes,
}

#[derive(Serialize, Clone, Copy)]
struct Overview {
    total_stocks: usize,
    nyse_stocks: usize,
    nasdaq_stocks: usize,
    gainers: usize,
    losers: usize,
    unchanged: usize,
}

#[derive(Serialize)]
struct OverviewWithPast<'a> {
    #[serde(flatten)]
    now: Overview,
    #[serde(flatten)]
    past: &'a MarketPast,
}

/// The past stands in the overview and beside it: clients of both kinds are out there.
#[derive(Serialize)]
struct MarketStats<'a> {
    market_overview: OverviewWithPast<'a>,
    top_gainers: Vec<Mover<'a>>,
    top_losers: Vec<Mover<'a>>,
    most_active: Vec<Active<'a>>,
    sectors: &'a [SectorStatistics],
    #[serde(flatten)]
    past: &'a MarketPast,
    last_updated: DateTime<Utc>,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct Trending<'a> {
    high_volume: Vec<Ranked<'a>>,
    top_gainers: Vec<Ranked<'a>>,
    most_active: Vec<Ranked<'a>>,
    last_updated: DateTime<Utc>,
    meta: &'a Meta,
}

/// The counts stand in the overview and beside it: clients of both kinds are out there.
#[derive(Serialize)]
struct Counts<'a> {
    success: bool,
    market_overview: OverviewWithShares,
    top_performers: TopPerformers<'a>,
    subscriptions: Subscriptions,
    #[serde(flatten)]
    overview: Overview,
    sectors: &'a [SectorStatistics],
    timestamp: DateTime<Utc>,
    last_updated: DateTime<Utc>,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct OverviewWithShares {
    #[serde(flatten)]
    now: Overview,
    /// Of all, to one place.
    gainer_percentage: f64,
    /// Symbols with a quote of the last 24 hours.
    recent_updates: usize,
}

#[derive(Serialize)]
struct TopPerformers<'a> {
    top_gainer: Option<Leader<'a>>,
    top_loser: Option<Leader<'a>>,
    most_active: Option<MostTraded<'a>>,
}

/// Who reads the site's letters is not known here.
#[derive(Serialize)]
struct Subscriptions {
    active_count: Unknown,
}

#[derive(Serialize)]
struct TotalTickers<'a> {
    success: bool,
    total_tickers: usize,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct GainersLosers<'a> {
    success: bool,
    gainers: usize,
    losers: usize,
    unchanged: usize,
    meta: &'a Meta,
}

impl Bodies {
    /// Renders and compresses each of them.
    pub fn render(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta) -> Self {
        let default = |which| ranking(snapshot, statistics, meta, which, DEFAULT_RANKING_ROWS).compressed();
        let stats = v1::stats(snapshot, statistics, meta).compressed();
        let id = StateId { slot: snapshot.cycle.slot, rendered_at: meta.rendered_at };
        Self {
            market_stats: market_stats(snapshot, statistics, meta).compressed(),
            top_gainers: default(Ranking::TopGainers),
            top_losers: default(Ranking::TopLosers),
            most_active: default(Ranking::MostActive),
            trending: trending(snapshot, statistics, meta).compressed(),
            statistics: counts(snapshot, statistics, meta).compressed(),
            total_tickers: Body::render(&TotalTickers { success: true, total_tickers: statistics.total_stocks, meta })
                .compressed(),
            gainers_losers: Body::render(&GainersLosers {
                success: true,
                gainers: statistics.gainers,
                losers: statistics.losers,
                unchanged: statistics.unchanged,
                meta,
            })
            .compressed(),
            event: v1::event(&id.to_string(), &stats),
            stats,
        }
    }
}

fn overview(statistics: &Statistics) -> Overview {
    Overview {
        total_stocks: statistics.total_stocks,
        nyse_stocks: statistics.nyse_stocks,
        nasdaq_stocks: statistics.nasdaq_stocks,
        gainers: statistics.gainers,
        losers: statistics.losers,
        unchanged: statistics.unchanged,
    }
}

fn market_stats(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta) -> Body {
    let top = |which| first(statistics.ranked(which), OVERVIEW_ROWS);
    Body::render(&MarketStats {
        market_overview: OverviewWithPast { now: overview(statistics), past: &statistics.past },
        top_gainers: rows(snapshot, top(Ranking::TopGainers), Mover::of),
        top_losers: rows(snapshot, top(Ranking::TopLosers), Mover::of),
        most_active: rows(snapshot, top(Ranking::MostActive), Active::of),
        sectors: &statistics.sectors,
        past: &statistics.past,
        last_updated: meta.as_of,
        meta,
    })
}

fn trending(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta) -> Body {
    let top = |which| rows(snapshot, first(statistics.ranked(which), DEFAULT_RANKING_ROWS), Ranked::of);
    Body::render(&Trending {
        high_volume: top(Ranking::MostActive),
        top_gainers: top(Ranking::TopGainers),
        most_active: top(Ranking::MostActive),
        last_updated: meta.as_of,
        meta,
    })
}

fn counts(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta) -> Body {
    let overview = overview(statistics);
    let quotes = &snapshot.quotes;
    let recent = meta.rendered_at - RECENT;
    let recently = |index: &usize| quotes.at(*index).is_some_and(|at| at >= recent);
    Body::render(&Counts {
        success: true,
        market_overview: OverviewWithShares {
            now: overview,
            gainer_percentage: percentage(overview.gainers, overview.total_stocks),
            recent_updates: quotes.quoted().filter(recently).count(),
        },
        top_performers: TopPerformers {
            top_gainer: leader(snapshot, statistics, Ranking::TopGainers, Leader::of),
            top_loser: leader(snapshot, statistics, Ranking::TopLosers, Leader::of),
            most_active: leader(snapshot, statistics, Ranking::MostActive, MostTraded::of),
        },
        subscriptions: Subscriptions { active_count: Unknown::default() },
        overview,
        sectors: &statistics.sectors,
        timestamp: meta.as_of,
        last_updated: meta.as_of,
        meta,
    })
}

/// The first of a ranking.
fn leader<'a, T>(
    snapshot: &'a Snapshot,
    statistics: &Statistics,
    which: Ranking,
    row: fn(&'a Listing, &Quote) -> T,
) -> Option<T> {
    rows(snapshot, first(statistics.ranked(which), 1), row).pop()
}

/// To one place; 0 of nothing.
fn percentage(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e3).round() / 10.0 }
}

/// The first `limit` of one ranking, under the name of the ranking. No more are kept than [`super::LONGEST_RANKING`].
pub fn ranking(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta, which: Ranking, limit: usize) -> Body {
    let list = rows(snapshot, first(statistics.ranked(which), limit), Ranked::of);
    let count = list.len();
    macro_rules! body {
        ($name:ident) => {{
            #[derive(Serialize)]
            struct Named<'a> {
                $name: Vec<Ranked<'a>>,
                count: usize,
                timestamp: DateTime<Utc>,
                meta: &'a Meta,
            }
            Body::render(&Named { $name: list, count, timestamp: meta.as_of, meta })
        }};
    }
    match which {
        Ranking::TopGainers => body!(top_gainers),
        Ranking::TopLosers => body!(top_losers),
        Ranking::MostActive => body!(most_active),
    }
}

fn first(indices: &[usize], limit: usize) -> &[usize] {
    &indices[..limit.min(indices.len())]
}
