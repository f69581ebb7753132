//! A simulated exchange: prices that look alive, made from a seed and the time alone.
//!
//! The same seed, symbol and instant always give the same quote, in any process. Nothing in it is real, and it says so: its
//! source is `simulated` in every answer. Like a real feed it has its troubles, on purpose: of every thousand symbols a few
//! are never answered for, a few are halted in the course of the session, a few show yesterday's quote, and two or so
//! drop out of any one cycle.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use super::{Answer, Call, Description, Provider, RawQuote};
use crate::calendar::{Calendar, Session, SharedCalendars};
use crate::clock::SharedClock;
use crate::ingest::budget::{Permit, Quota};
use crate::ingest::past::{DailyPage, DailyRequest, Past, PastForm, SplitPage};
use crate::market::{DailyBar, DelayClass, LicenceClass, Listing, Universe};

/// One day's trading is cut into so many steps for its high and low.
const STEPS: u32 = 26;

/// How far through the session a halted symbol stops.
const HALT_AT: f64 = 0.3;

/// Swings of the price: how many lattice points a day, and how far a swing goes (in natural logarithms).
const SWINGS: &[(f64, f64)] =
    &[(1.0 / 64.0, 0.30), (1.0 / 16.0, 0.12), (1.0 / 4.0, 0.05), (1.0, 0.02), (8.0, 0.006), (65.0, 0.002)];

/// The exchange.
#[derive(Debug)]
pub struct SimulatedExchange {
    seed: u64,
    calendar: Arc<SharedCalendars>,
    clock: SharedClock,
}

/// What a symbol does that it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    NeverAnswers,
    Halted,
    ShowsYesterday,
    OutOfThisCycle,
}

/// A point of a session: its place on the price path, and the instant.
#[derive(Debug, Clone, Copy)]
struct Point {
    day: f64,
    progress: f64,
    at: DateTime<Utc>,
}

impl SimulatedExchange {
    /// An exchange that trades in the regular sessions of `calendar`.
    pub fn new(seed: u64, calendar: Arc<SharedCalendars>, clock: SharedClock) -> Self {
        Self { seed, calendar, clock }
    }

    fn quote(&self, symbol: &str, days: &Days, now: DateTime<Utc>) -> Option<RawQuote> {
        let key = hash(self.seed, symbol.bytes());
        let trouble = trouble_of(key, now);
        let (session, previous_close, mut point) = match trouble {
            Trouble::NeverAnswers | Trouble::OutOfThisCycle => return None,
            Trouble::ShowsYesterday => (&days.before, end_of(&days.earlier), end_of(&days.before)),
            Trouble::None | Trouble::Halted => (&days.latest, end_of(&days.before), point_of(&days.latest, now)),
        };
        let halted = trouble == Trouble::Halted && point.progress > HALT_AT;
        if halted {
            point = at_progress(session, HALT_AT);
        }
        Some(trade(key, previous_close, session, point, halted))
    }

    fn bar(&self, symbol: &str, session: &Session) -> Option<DailyBar> {
        let key = hash(self.seed, symbol.bytes());
        let end = end_of(session);
        let (low, high) = range_until(key, session, end);
        let ohlc = [price_at(key, at_progress(session, 0.0)), high, low, price_at(key, end)];
        DailyBar::from_decimals(symbol.to_owned(), session.date, ohlc, volume_at(key, end))
    }
}

/// The session that quotes belong to (the one under way, or the last one) and the two before it.
struct Days {
    latest: Session,
    before: Session,
    earlier: Session,
}

impl Days {
    fn at(calendar: &Calendar, now: DateTime<Utc>) -> Option<Self> {
        let latest = calendar.latest_session(now)?;
        let before = calendar.previous_session(latest.date)?;
        let earlier = calendar.previous_session(before.date)?;
        Some(Self { latest, before, earlier })
    }
}

impl Provider for SimulatedExchange {
    fn description(&self) -> Description {
        Description {
            name: "sim",
            source: "simulated",
            simulated: true,
            quota: Quota { requests: 6_000, per: Duration::from_mins(1), burst: 300 },
            max_batch: 200,
            whole_market: false,
            delay: Duration::ZERO,
            delay_class: DelayClass::RealTime,
            licence_class: LicenceClass::Simulated,
        }
    }

    fn fetch<'a>(&'a self, universe: &'a Universe, batch: &'a [usize], _permit: Permit) -> Call<'a> {
        Box::pin(async move {
            let now = self.clock.now();
            let Some(days) = Days::at(&self.calendar.load(), now) else { return Ok(Answer::default()) };
            let listings = universe.listings();
            let quotes = batch.iter().filter_map(|index| {
                let quote = self.quote(&listings.get(*index)?.symbol, &days, now)?;
                Some((*index, quote))
            });
            Ok(Answer { quotes: quotes.collect(), ..Answer::default() })
        })
    }

    fn past(&self) -> Option<&dyn Past> {
        Some(self)
    }
}

/// The past is the same path that quotes are taken from: a bar's close is the previous close of the next session's quotes. A
/// symbol that was halted closes with the rest. There are no splits.
impl Past for SimulatedExchange {
    fn form(&self) -> PastForm {
        PastForm::WholeMarket
    }

    fn daily<'a>(&'a self, universe: &'a Universe, request: DailyRequest<'a>, _permit: Permit) -> Call<'a, DailyPage> {
        Box::pin(async move {
            let now = self.clock.now();
            let calendar = self.calendar.load();
            let (wanted, from, to) = match request {
                DailyRequest::WholeMarket(date) => (None, date, date),
                DailyRequest::Symbols { wanted, from, to, .. } => (Some(wanted), from, to),
            };
            let mut bars = Vec::new();
            for session in calendar.sessions(from, to).filter(|session| session.close <= now) {
                let bar_of = |listing: &Listing| self.bar(&listing.symbol, &session);
                match wanted {
                    None => bars.extend(universe.listings().iter().filter_map(bar_of)),
                    Some(wanted) => {
                        let listings = wanted.iter().filter_map(|index| universe.listings().get(*index));
                        bars.extend(listings.filter_map(bar_of));
                    }
                }
            }
            Ok(DailyPage { bars, ..DailyPage::default() })
        })
    }

    fn splits<'a>(&'a self, _since: NaiveDate, _page: Option<&'a str>, _permit: Permit) -> Call<'a, SplitPage> {
        Box::pin(async { Ok(SplitPage::default()) })
    }
}

/// Troubles of a symbol last; only dropping out of a cycle comes and goes.
fn trouble_of(key: u64, now: DateTime<Utc>) -> Trouble {
    const CYCLE_SECONDS: i64 = 180;
    match mix(key ^ 0x7261) % 1_000 {
        0..4 => Trouble::NeverAnswers,
        4..8 => Trouble::Halted,
        8..12 => Trouble::ShowsYesterday,
        _ if mix(key ^ (now.timestamp() / CYCLE_SECONDS).unsigned_abs()).is_multiple_of(500) => Trouble::OutOfThisCycle,
        _ => Trouble::None,
    }
}

fn trade(key: u64, previous_close: Point, session: &Session, point: Point, halted: bool) -> RawQuote {
    let price = price_at(key, point);
    let (low, high) = range_until(key, session, point);
    let half_spread = (price * (1.0 + unit(mix(key ^ 0x7370)) * 4.0) / 10_000.0).max(0.01);
    RawQuote {
        at: Some(point.at),
        price: Some(price),
        previous_close: Some(price_at(key, previous_close)),
        open: Some(price_at(key, at_progress(session, 0.0))),
        high: Some(high),
        low: Some(low),
        bid: Some(cents(price - half_spread)),
        ask: Some(cents(price + half_spread)),
        volume: Some(volume_at(key, point)),
        halted,
    }
}

/// Lowest and highest price of the session up to a point.
fn range_until(key: u64, session: &Session, point: Point) -> (f64, f64) {
    // The path so far, at fixed places, so that a high once made stays.
    let path =
        (0..=STEPS).map(|step| f64::from(step) / f64::from(STEPS)).filter(|progress| *progress <= point.progress);
    let path = path.map(|progress| price_at(key, at_progress(session, progress)));
    let price = price_at(key, point);
    path.fold((price, price), |(low, high), price| (low.min(price), high.max(price)))
}

/// A quote is up to 20 s old, as trades come now and then; never from before the open.
fn point_of(session: &Session, now: DateTime<Utc>) -> Point {
    let at = now.clamp(session.open, session.close);
    let length = (session.close - session.open).as_seconds_f64().max(1.0);
    let progress = (at - session.open).as_seconds_f64() / length;
    Point { day: day_of(session), progress, at }
}

fn at_progress(session: &Session, progress: f64) -> Point {
    let length = (session.close - session.open).as_seconds_f64();
    let at = session.open + TimeDelta::seconds((length * progress) as i64);
    Point { day: day_of(session), progress, at }
}

fn end_of(session: &Session) -> Point {
    Point { day: day_of(session), progress: 1.0, at: session.close }
}

fn day_of(session: &Session) -> f64 {
    f64::from(session.date.num_days_from_ce())
}

/// The price path: a base between 4 and 400, moved by smooth noise on six scales.
fn price_at(key: u64, point: Point) -> f64 {
    let base = 4.0 * 100_f64.powf(unit(mix(key ^ 0x6261)));
    let swing: f64 = SWINGS
        .iter()
        .zip(0_u64..)
        .map(|((per_day, amplitude), scale)| {
            amplitude * noise(mix(key.wrapping_add(scale)), (point.day + point.progress) * per_day)
        })
        .sum();
    cents(base * swing.exp())
}

/// Shares so far: more at the open and the close than at noon; between 50,000 and 50 million a day.
fn volume_at(key: u64, point: Point) -> f64 {
    let day = mix(key ^ point.day.to_bits());
    let whole_day = 50_000.0 * 1_000_f64.powf(unit(mix(key ^ 0x766f))) * (0.7 + 0.6 * unit(day));
    let share = point.progress + 0.7 * (TAU * point.progress).sin() / TAU;
    (whole_day * share).max(0.0).round()
}

fn cents(price: f64) -> f64 {
    (price * 100.0).round().max(1.0) / 100.0
}

/// Smooth noise in -1..=1 over the line: random values at the whole numbers, eased between.
fn noise(key: u64, x: f64) -> f64 {
    let left = x.floor();
    let at = |lattice: f64| unit(mix(key ^ lattice.to_bits())) * 2.0 - 1.0;
    let t = x - left;
    let eased = t * t * (3.0 - 2.0 * t);
    at(left) + (at(left + 1.0) - at(left)) * eased
}

fn hash(seed: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)))
}

/// The finaliser of SplitMix64: every bit of the input moves every bit of the output.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in 0..1 from the top bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
