//! Where quotes come from: one file per source, each described by data.

mod alpaca;
mod alpaca_past;
mod csv;
mod http;
mod massive;
mod massive_past;
mod sim;
mod spelling;
mod text;
mod tiingo;
mod yahoo;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::budget::{Permit, Quota};
use super::past::Past;
use crate::calendar::SharedCalendars;
use crate::clock::SharedClock;
use crate::config::ProviderConfig;
use crate::market::{DelayClass, LicenceClass, Universe};
pub use alpaca::Alpaca;
pub use csv::Csv;
pub use massive::Massive;
pub use sim::SimulatedExchange;
pub use tiingo::Tiingo;
pub use yahoo::Yahoo;

/// What a provider is, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// In logs and metrics.
    pub name: &'static str,
    /// In answers, as `meta.source`.
    pub source: &'static str,
    /// Its prices are made up.
    pub simulated: bool,
    /// What it allows.
    pub quota: Quota,
    /// The most symbols of one call. Of no weight where `whole_market` is set.
    pub max_batch: usize,
    /// One call answers for every symbol there is, whatever was asked for.
    pub whole_market: bool,
    /// How far behind the market its data runs by contract.
    pub delay: Duration,
    /// The same as a class, for readers.
    pub delay_class: DelayClass,
    /// Who may be shown its numbers.
    pub licence_class: LicenceClass,
}

impl Description {
    /// How many of `symbols` one call takes; at least one.
    pub fn batch_size(&self, symbols: usize) -> usize {
        if self.whole_market { symbols.max(1) } else { self.max_batch.max(1) }
    }

    /// Calls that `symbols` take.
    pub fn requests_for(&self, symbols: usize) -> usize {
        symbols.div_ceil(self.batch_size(symbols))
    }
}

/// What a provider says of one symbol, before anybody believes it. `None` is what it leaves unset.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RawQuote {
    /// The quote's own time.
    pub at: Option<DateTime<Utc>>,
    /// Last price, in currency.
    pub price: Option<f64>,
    /// Close of the session before.
    pub previous_close: Option<f64>,
    /// First price of the session.
    pub open: Option<f64>,
    /// Highest price of the session.
    pub high: Option<f64>,
    /// Lowest price of the session.
    pub low: Option<f64>,
    /// Best bid.
    pub bid: Option<f64>,
    /// Best offer.
    pub ask: Option<f64>,
    /// Shares traded in the session.
    pub volume: Option<f64>,
    /// Trading in it is halted.
    pub halted: bool,
}

impl RawQuote {
    /// A price and a time: whether they are of today is another question.
    pub fn is_usable(&self) -> bool {
        self.price.is_some_and(|price| price > 0.0) && self.at.is_some()
    }
}

/// An answered call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Index in the universe, and what was said of it; symbols that were not asked for are left out.
    pub quotes: Vec<(usize, RawQuote)>,
    /// The provider says that its data is delayed.
    pub delayed: bool,
    /// What in it could not be read, in a few words; the rest is good.
    pub remarks: Vec<String>,
}

/// A call that was not answered; the kind is the decision. Messages hold no key and no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The provider is there and does not want to answer now (its quota, a rebuild): trying again may help, not before
    /// `after`.
    #[error("{message}")]
    Retry {
        /// What the provider asked for.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// The host failed (no connection, no answer in time, a broken answer, HTTP 5xx): trying again may help, and the breaker
    /// counts it.
    #[error("{message}")]
    Down {
        /// What the provider asked for.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// Refused for what was asked: a smaller request, without the symbol that spoils it, may be answered.
    #[error("{0}")]
    Refused(String),
    /// Trying again will not help until somebody changes something.
    #[error("{0}")]
    Fail(String),
}

/// The future of one call.
pub type Call<'a, T = Answer> = Pin<Box<dyn Future<Output = Result<T, FetchError>> + Send + 'a>>;

/// A source of quotes. One call, one permit.
pub trait Provider: Send + Sync {
    /// What it is.
    fn description(&self) -> Description;

    /// Asks for the listings of `universe` whose indices are in `batch`. The call has a deadline of its own.
    fn fetch<'a>(&'a self, universe: &'a Universe, batch: &'a [usize], permit: Permit) -> Call<'a>;

    /// Its side that knows past sessions, where it has one.
    fn past(&self) -> Option<&dyn Past> {
        None
    }
}

/// The provider that the configuration names.
///
/// # Errors
/// When an HTTP client cannot be made, which is a fault of the host.
pub fn of_config(
    config: &ProviderConfig,
    calendar: Arc<SharedCalendars>,
    clock: SharedClock,
) -> Result<Arc<dyn Provider>, FetchError> {
    Ok(match config {
        ProviderConfig::Sim { seed } => Arc::new(SimulatedExchange::new(*seed, calendar, clock)),
        ProviderConfig::Massive(config) => Arc::new(Massive::new(config)?),
        ProviderConfig::Alpaca(config) => Arc::new(Alpaca::new(config)?),
        ProviderConfig::Tiingo(config) => Arc::new(Tiingo::new(config)?),
        ProviderConfig::Csv(config) => Arc::new(Csv::new(config)?),
        ProviderConfig::Yahoo(config) => Arc::new(Yahoo::new(config)?),
    })
}
