//! The side of a provider that knows past sessions: daily bars and splits, asked for within the same quota as quotes.

use chrono::{DateTime, NaiveDate, Utc};
use tracing::warn;

use super::budget::Permit;
use super::cycle::REFUSALS_WITHOUT_AN_ANSWER;
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
    /// So many could not be read, or contradicted themselves; the others are good.
    pub garbled: usize,
}

/// Splits, also of symbols that are not in the universe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitPage {
    /// In no order.
    pub splits: Vec<Split>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// Where pages come in order of the dates: every split before this one has come with this page and those before it.
    pub reached: Option<NaiveDate>,
}

/// A source of past sessions. One call, one permit.
pub trait Past: Send + Sync {
    /// Which of the two forms of [`DailyRequest`] it takes.
    fn form(&self) -> PastForm;

    /// Asks for daily bars of sessions that are over; a request of the other form is refused. Where there are none of the whole market
    /// the answer is a failure: there was a session.
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
    /// nothing is begun or waited for past `deadline`. A call that one symbol spoils is taken apart until the symbol stands alone; it
    /// has no bars then. Also gives the number of calls made.
    ///
    /// # Errors
    /// When the provider has no past, and when a page could not be had; then nothing is given, so that no date is half.
    /// [`FetchError::Refused`] where each symbol stood alone and was refused.
    pub async fn daily(
        &self,
        universe: &Universe,
        request: DailyRequest<'_>,
        deadline: DateTime<Utc>,
    ) -> Result<(Vec<DailyBar>, u32), FetchError> {
        let mut requests = 0;
        let DailyRequest::Symbols { wanted, from, to, page } = request else {
            return Ok((self.daily_pages(universe, request, deadline, &mut requests).await?, requests));
        };
        let (mut bars, mut answers, mut refusals, mut refused) = (Vec::new(), 0, 0, None);
        let mut parts = vec![wanted];
        while let Some(wanted) = parts.pop() {
            let part = DailyRequest::Symbols { wanted, from, to, page };
            match self.daily_pages(universe, part, deadline, &mut requests).await {
                Ok(more) => {
                    answers += 1;
                    bars.extend(more);
                }
                Err(FetchError::Refused(message)) => {
                    refusals += 1;
                    if answers == 0 && refusals > REFUSALS_WITHOUT_AN_ANSWER {
                        return Err(FetchError::Fail(message));
                    }
                    if let [index] = wanted {
                        let symbol = universe.listings().get(*index).map_or("", |listing| listing.symbol.as_str());
                        warn!(symbol, reason = message, "the provider refuses a symbol; it has no daily bars");
                        refused = Some(message);
                    } else {
                        let (first, second) = wanted.split_at(wanted.len() / 2);
                        parts.extend([second, first]);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        match refused {
            Some(message) if answers == 0 => Err(FetchError::Refused(message)),
            _ => Ok((bars, requests)),
        }
    }

    async fn daily_pages(
        &self,
        universe: &Universe,
        request: DailyRequest<'_>,
        deadline: DateTime<Utc>,
        requests: &mut u32,
    ) -> Result<Vec<DailyBar>, FetchError> {
        let past = self.past().ok_or_else(|| self.without_past())?;
        let (mut bars, mut garbled) = (Vec::new(), 0);
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let call = |permit| past.daily(universe, at_page(request, next.as_deref()), permit);
            let Tries { result, requests: made } = self.with_tries(deadline, call).await;
            *requests += made;
            let page = result?;
            bars.extend(page.bars);
            garbled += page.garbled;
            next = page.next;
            if next.is_none() {
                if garbled > 0 {
                    let provider = self.provider().description().name;
                    warn!(provider, garbled, "daily bars that are not as documented were left out");
                }
                return Ok(bars);
            }
        }
        Err(self.endless())
    }

    /// The splits since a date, every page of them, in the same manner as [`Self::daily`].
    ///
    /// # Errors
    /// When the provider has no past, and when a page could not be had.
    pub async fn splits(&self, since: NaiveDate, deadline: DateTime<Utc>) -> Result<(Vec<Split>, u32), FetchError> {
        let (mut splits, mut requests) = (Vec::new(), 0);
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let (page, made) = self.splits_page(since, next.as_deref(), deadline).await?;
            requests += made;
            splits.extend(page.splits);
            if page.next.is_none() {
                return Ok((splits, requests));
            }
            next = page.next;
        }
        Err(self.endless())
    }

    /// One page of them, and the number of calls made.
    ///
    /// # Errors
    /// When the provider has no past, and when the page could not be had.
    pub async fn splits_page(
        &self,
        since: NaiveDate,
        page: Option<&str>,
        deadline: DateTime<Utc>,
    ) -> Result<(SplitPage, u32), FetchError> {
        let past = self.past().ok_or_else(|| self.without_past())?;
        let Tries { result, requests } = self.with_tries(deadline, |permit| past.splits(since, page, permit)).await;
        result.map(|page| (page, requests))
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
