//! The side of a provider that knows past sessions: daily bars and splits, asked for within the same quota as quotes.

use chrono::{DateTime, NaiveDate, Utc};

use super::budget::Permit;
use super::fetch::{Fetcher, Tries};
use super::providers::{Call, FetchError};
use crate::market::{DailyBar, Split, Universe};

/// The most pages of one answer: more are a provider that goes round in circles.
const MOST_PAGES: usize = 10_000;

/// What one call for daily bars answers for, as data: how to cut a backfill into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastForm {
    /// Every symbol there is, for one session date: [`DailyRequest::WholeMarket`].
    WholeMarket,
    /// Up to `max_symbols` over a range of dates, in pages: [`DailyRequest::Symbols`].
    Symbols {
        /// The most symbols of one call.
        max_symbols: usize,
    },
}

/// One call for daily bars, in the form that the provider takes.
#[derive(Debug, Clone, Copy)]
pub enum DailyRequest<'a> {
    /// Everything of one session.
    WholeMarket(NaiveDate),
    /// Some symbols over some dates, both ends included.
    Symbols {
        /// Indices of the universe.
        wanted: &'a [usize],
        /// The first date.
        from: NaiveDate,
        /// The last date.
        to: NaiveDate,
        /// Where the answer before left off; `None` for the beginning.
        page: Option<&'a str>,
    },
}

/// Daily bars, raw. Of a session that is not over, and of symbols that are not in the universe, there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DailyPage {
    /// In no order.
    pub bars: Vec<DailyBar>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// Splits, also of symbols that are not in the universe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitPage {
    /// In no order.
    pub splits: Vec<Split>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A source of past sessions. One call, one permit.
pub trait Past: Send + Sync {
    /// Which of the two forms of [`DailyRequest`] it takes.
    fn form(&self) -> PastForm;

    /// Asks for daily bars; a request of the other form is refused.
    fn daily<'a>(&'a self, universe: &'a Universe, request: DailyRequest<'a>, permit: Permit) -> Call<'a, DailyPage>;

    /// Asks for the splits whose date is `since` or later; `page` as in [`SplitPage::next`].
    fn splits<'a>(&'a self, since: NaiveDate, page: Option<&'a str>, permit: Permit) -> Call<'a, SplitPage>;
}

impl Fetcher {
    /// The past side of the provider, where it has one: says which requests it takes.
    pub fn past(&self) -> Option<&dyn Past> {
        self.provider().past()
    }

    /// The daily bars of a request, every page of them. Each call is paid with a permit and tried again as a cycle's are;
    /// nothing is begun or waited for past `deadline`. Also gives the number of calls made.
    ///
    /// # Errors
    /// When the provider has no past, and when a page could not be had; then nothing is given, so that no date is half.
    pub async fn daily(
        &self,
        universe: &Universe,
        request: DailyRequest<'_>,
        deadline: DateTime<Utc>,
    ) -> Result<(Vec<DailyBar>, u32), FetchError> {
        let past = self.past().ok_or_else(|| self.without_past())?;
        let (mut bars, mut requests) = (Vec::new(), 0);
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let call = |permit| past.daily(universe, at_page(request, next.as_deref()), permit);
            let Tries { result, requests: made } = self.with_tries(deadline, call).await;
            requests += made;
            let page = result?;
            bars.extend(page.bars);
            if page.next.is_none() {
                return Ok((bars, requests));
            }
            next = page.next;
        }
        Err(self.endless())
    }

    /// The splits since a date, every page of them, in the same manner as [`Self::daily`].
    ///
    /// # Errors
    /// When the provider has no past, and when a page could not be had.
    pub async fn splits(&self, since: NaiveDate, deadline: DateTime<Utc>) -> Result<(Vec<Split>, u32), FetchError> {
        let past = self.past().ok_or_else(|| self.without_past())?;
        let (mut splits, mut requests) = (Vec::new(), 0);
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let call = |permit| past.splits(since, next.as_deref(), permit);
            let Tries { result, requests: made } = self.with_tries(deadline, call).await;
            requests += made;
            let page = result?;
            splits.extend(page.splits);
            if page.next.is_none() {
                return Ok((splits, requests));
            }
            next = page.next;
        }
        Err(self.endless())
    }

    fn without_past(&self) -> FetchError {
        FetchError::Fail(format!("{} knows nothing of past sessions", self.provider().description().name))
    }

    fn endless(&self) -> FetchError {
        FetchError::Fail(format!("{}: the answer has more than {MOST_PAGES} pages", self.provider().description().name))
    }
}

/// The same request from a page on.
fn at_page<'a>(request: DailyRequest<'a>, page: Option<&'a str>) -> DailyRequest<'a> {
    match request {
        DailyRequest::Symbols { wanted, from, to, page: first } => {
            DailyRequest::Symbols { wanted, from, to, page: page.or(first) }
        }
        whole @ DailyRequest::WholeMarket(_) => whole,
    }
}
