//! The provider's own daily bars of the last sessions: a cycle has what a share was last traded at, which a few minutes after the close
//! is a price of after hours, and never the price of the closing auction. The provider's bar is that of the regular session.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use tracing::warn;

use super::backfill::BackfillError;
use super::market_data::MarketData;
use crate::ingest::past::{DailyRequest, PastForm};
use crate::ingest::providers::FetchError;
use crate::market::DailyBar;

/// So far back a session is looked after whose bars are not settled: what is said on the day itself is corrected in the night, and a day
/// may be missed.
const LOOKED_BACK: TimeDelta = TimeDelta::days(7);

/// What the bars are kept as; no unit of a backfill, so that one asks for the same sessions once more when they are settled.
const UNIT: &str = "the last sessions";

impl MarketData {
    /// Takes the bars of the sessions of the last days that are over, were seen in cycles and are not settled. Gives how many; `None` where the provider
    /// knows no past.
    ///
    /// # Errors
    /// When the provider or the database fails; what was taken before stays.
    pub async fn take_last_bars(&self, deadline: DateTime<Utc>) -> Result<Option<usize>, BackfillError> {
        let Some(form) = self.fetcher.past().map(|past| past.form()) else { return Ok(None) };
        let sessions = self.last_sessions().await?;
        match self.take_bars_of(form, &sessions, deadline).await {
            // The plan may not have the day itself yet; those before it are another question.
            Err(BackfillError::Provider(FetchError::Fail(reason))) if sessions.len() > 1 => {
                warn!(reason, "the daily bars of the last session could not be taken from the provider");
                self.take_bars_of(form, &sessions[..sessions.len() - 1], deadline).await.map(Some)
            }
            taken => taken.map(Some),
        }
    }

    /// Those whose day is over are settled then.
    async fn take_bars_of(
        &self,
        form: PastForm,
        sessions: &[NaiveDate],
        deadline: DateTime<Utc>,
    ) -> Result<usize, BackfillError> {
        let (Some(from), Some(to)) = (sessions.first(), sessions.last()) else { return Ok(0) };
        let current = self.universe.load();
        let universe = &current.universe;
        let all: Vec<usize> = (0..universe.len()).collect();
        let requests: Vec<DailyRequest<'_>> = match form {
            // The newest first: it is the one without any bar of the provider yet.
            PastForm::WholeMarket => sessions.iter().rev().map(|session| DailyRequest::WholeMarket(*session)).collect(),
            PastForm::Symbols { max_symbols } => {
                let parts = all.chunks(max_symbols.max(1));
                parts.map(|wanted| DailyRequest::Symbols { wanted, from: *from, to: *to, page: None }).collect()
            }
        };
        let mut taken = 0;
        for request in requests {
            let (mut bars, _) = self.fetcher.daily(universe, request, deadline).await?;
            bars.retain(|bar: &DailyBar| sessions.contains(&bar.date));
            self.store.save_backfill(self.provider().source, UNIT, &bars, self.clock.now()).await?;
            taken += bars.len();
        }
        let now = self.clock.now();
        let today = self.calendar.load().local_date(now);
        for session in sessions.iter().filter(|session| **session < today) {
            self.store.save_backfill(self.provider().source, &settled(*session), &[], now).await?;
        }
        Ok(taken)
    }

    async fn last_sessions(&self) -> Result<Vec<NaiveDate>, BackfillError> {
        let (calendar, now) = (self.calendar.load(), self.clock.now());
        let days = self.store.market_days(7).await?;
        let taken = self.store.backfilled(self.provider().source).await?;
        let seen = days.iter().filter_map(|day| calendar.session(day.session));
        let over = seen.filter(|session| session.close <= now && session.close >= now - LOOKED_BACK);
        Ok(over.map(|session| session.date).filter(|date| !taken.contains(&settled(*date))).collect())
    }
}

/// The note that nothing more is to come of a session.
fn settled(session: NaiveDate) -> String {
    format!("settled {session}")
}
