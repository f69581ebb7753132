//! Letters are brought to the mail server, each at least once, all of them under ids of their own that stay the same.
//!
//! This goes on beside the schedule, on every instance: at once when something was written, and every 30 s, which finds what is tried
//! again and what a process that is gone had taken. Each letter is its own row of a ledger, so that it needs none among the runs
//! (`docs/decisions/010-letters-are-their-own-ledger.md`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::clock::SharedClock;
use crate::mail::{Cover, Letter, Mailer, Session, Trouble, Undelivered, compose, is_still_true};
use crate::metrics;
use crate::store::{LetterClaim, LetterEnd, LetterRow, LetterState, Store, StoreError};

use super::unanswered::Unanswered;

/// How often is looked without being told.
const EVERY: Duration = Duration::from_secs(30);

/// Letters that are taken at a time.
const BATCH: u32 = 10;

/// For so long what was taken is nobody else's; none is begun that could take longer.
const CLAIM: TimeDelta = TimeDelta::minutes(30);

/// How often is looked whether a letter without an address is still true, and not too old. One whose address is told is due at once.
const LOOK_FOR_ADDRESS: TimeDelta = TimeDelta::hours(1);

/// The pause after the first, second .. failure of a letter, in minutes; the last one holds for all that follow.
const PAUSES: [i64; 8] = [1, 5, 15, 60, 180, 360, 720, 1_440];

/// The pause after the first, second .. conversation in a row that did not come about, in seconds; the last one holds on.
const SERVER_PAUSES: [i64; 5] = [30, 60, 120, 300, 600];

/// What brings letters to the server.
#[derive(Debug)]
pub struct Outbox {
    /// Where they are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// The way to the server; `None`: letters wait.
    pub mailer: Option<Mailer>,
    /// Where the site's pages are.
    pub site: String,
    /// Letters of one run, at most.
    pub per_run: u32,
    /// For so long a letter is tried.
    pub keep_trying: TimeDelta,
    /// Told when there is something.
    pub nudge: Arc<Notify>,
}

/// How one try at a letter ended, as far as the conversation is concerned.
enum Try {
    /// It goes on.
    Done,
    /// It is over, for this reason; the try counts.
    Over(String),
    /// It is over; nothing of this letter was said.
    NotBegun(String),
}

/// What this process has claimed, as far as the database does not know what became of it. None of it need wait for its claim to
/// grow old, and what was sent is not sent again over that.
#[derive(Debug, Default)]
struct AtHand {
    /// What became of a letter, not written down yet.
    ends: Vec<(LetterClaim, LetterEnd)>,
    /// Those of a batch that were not begun with, in their turn.
    claims: VecDeque<LetterClaim>,
    /// The ends of claims of which it is not known whether they were made.
    unanswered: Unanswered,
}

/// How one run came to its end.
enum Pass {
    /// Nothing is left that is due.
    Done,
    /// There is more than one run may send.
    More,
    /// The server takes no letters now.
    Closed(Trouble),
}

impl Outbox {
    /// Sends what is due until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        if self.store.is_exclusive() {
            // Nobody else can have what a process before this one had taken.
            match self.store.release_letters(self.clock.now()).await {
                Ok(0) => {}
                Ok(letters) => info!(letters, "letters that a process before this one had begun are taken up again"),
                Err(fault) => {
                    warn!(error = %fault, "letters that were begun could not be given back; they wait for their time");
                }
            }
        }
        if self.mailer.is_none() {
            metrics::mail_server_up(false);
            info!("EMAIL_HOST is not set: letters are written and wait");
        }
        let (mut failures, mut closed_until) = (0, DateTime::<Utc>::MIN_UTC);
        let mut at_hand = AtHand::default();
        while !stop.is_cancelled() {
            let mut at_once = false;
            if let Some(mailer) = self.mailer.as_ref().filter(|_| self.clock.now() >= closed_until) {
                match self.pass(mailer, &mut at_hand, &stop).await {
                    Ok(Pass::Closed(trouble)) => {
                        let pause = pause_of(&SERVER_PAUSES, failures);
                        (failures, closed_until) = (failures + 1, self.clock.now() + TimeDelta::seconds(pause));
                        metrics::mail_server_up(false);
                        warn!(error = %trouble, pause_s = pause, "no letter can be sent now; none was lost, they wait");
                    }
                    Ok(pass) => {
                        failures = 0;
                        at_once = matches!(pass, Pass::More);
                    }
                    Err(fault) => warn!(error = %fault, "the outbox cannot be worked on now"),
                }
            }
            self.show().await;
            if at_once {
                continue;
            }
            tokio::select! {
                () = self.nudge.notified() => {}
                () = self.clock.beat(EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(fault) = self.put_away(&mut at_hand).await {
            warn!(error = %fault, "what became of the last letters could not be written down; they may be sent again");
        }
    }

    /// What is due, up to the bound of a run, in one conversation.
    async fn pass(&self, mailer: &Mailer, at_hand: &mut AtHand, stop: &CancellationToken) -> Result<Pass, StoreError> {
        self.put_away(at_hand).await?;
        if !self.store.has_due_letters(self.clock.now()).await? {
            return Ok(Pass::Done);
        }
        // Before a letter is taken: a server that is away must not use up any letter's tries.
        let mut session = match mailer.connect().await {
            Ok(session) => session,
            Err(trouble) => return Ok(Pass::Closed(trouble)),
        };
        metrics::mail_server_up(true);
        let mut left = self.per_run;
        while left > 0 && !stop.is_cancelled() {
            let now = self.clock.now();
            at_hand.unanswered.asked(now + CLAIM);
            let claims = self.store.claim_letters(now, now + CLAIM, BATCH.min(left)).await?;
            at_hand.unanswered.answered();
            if claims.is_empty() {
                session.end().await;
                return Ok(Pass::Done);
            }
            left -= u32::try_from(claims.len()).unwrap_or(left);
            at_hand.claims = claims.into();
            while let Some(claim) = at_hand.claims.front().cloned() {
                if stop.is_cancelled() || self.clock.later(mailer.longest_letter()) >= now + CLAIM {
                    self.put_away(at_hand).await?;
                    break;
                }
                let settled = self.settle(mailer, &mut session, &claim, at_hand).await;
                if matches!(settled, Ok(Try::Done | Try::Over(_)))
                    || at_hand.ends.iter().any(|(ended, _)| *ended == claim)
                {
                    at_hand.claims.pop_front();
                }
                if let Try::Over(words) | Try::NotBegun(words) = settled? {
                    self.put_away(at_hand).await?;
                    return Ok(Pass::Closed(Trouble { server: mailer.name(), words }));
                }
            }
        }
        session.end().await;
        Ok(if stop.is_cancelled() { Pass::Done } else { Pass::More })
    }

    /// Writes down what is at hand.
    async fn put_away(&self, at_hand: &mut AtHand) -> Result<(), StoreError> {
        self.put_away_ends(at_hand).await?;
        let now = self.clock.now();
        for until in at_hand.unanswered.due(now) {
            at_hand.unanswered.looked(until, self.store.take_back_letters(until, now).await?, now);
        }
        if !at_hand.claims.is_empty() {
            self.store.give_letters_back(at_hand.claims.make_contiguous(), self.clock.now()).await?;
            at_hand.claims.clear();
        }
        Ok(())
    }

    /// One that the database refuses keeps nobody else waiting, unless there are many.
    async fn put_away_ends(&self, at_hand: &mut AtHand) -> Result<(), StoreError> {
        let mut index = 0;
        while let Some((claim, end)) = at_hand.ends.get(index) {
            let (letter_id, state) = (&claim.id, end.state.name());
            match self.store.mark_letter(claim, end).await {
                Ok(true) => {}
                Ok(false) => debug!(letter_id, "a letter was somebody else's meanwhile"),
                // By then its claim has ended by itself.
                Err(fault) if self.clock.now() - end.at > CLAIM => {
                    error!(letter_id, state, error = %fault, "what became of a letter could not be written down");
                }
                Err(fault) if matches!(fault, StoreError::Deadline(_)) || at_hand.ends.len() >= BATCH as usize => {
                    return Err(fault);
                }
                Err(fault) => {
                    warn!(letter_id, state, error = %fault, "what became of a letter cannot be written down now");
                    index += 1;
                    continue;
                }
            }
            at_hand.ends.remove(index);
        }
        Ok(())
    }

    /// One try at one letter.
    async fn settle(
        &self,
        mailer: &Mailer,
        session: &mut Session<'_>,
        claim: &LetterClaim,
        at_hand: &mut AtHand,
    ) -> Result<Try, StoreError> {
        let Some(row) = self.store.letter(&claim.id).await? else { return Ok(Try::Done) };
        if let Some(why) = self.why_not(&row, claim).await? {
            self.mark(at_hand, &row, claim, LetterState::Dropped, Some(why)).await?;
            return Ok(Try::Done);
        }
        let Some(recipient) = row.recipient.as_deref() else {
            let words = "the account has no mail address yet: the site tells it with POST /api/accounts";
            debug!(letter_id = row.id, step = row.step, "a letter waits for the address of its account");
            self.store.let_letter_wait(claim, words, self.clock.now() + LOOK_FOR_ADDRESS).await?;
            return Ok(Try::Done);
        };
        let details: Value = serde_json::from_str(&row.details).unwrap_or_default();
        let Some(letter) = Letter::of(&row.step, &details, &self.site) else {
            let words = format!("there is no letter {:?}", row.step);
            self.mark(at_hand, &row, claim, LetterState::Dead, Some(words)).await?;
            return Ok(Try::Done);
        };
        let key = [row.account.as_str(), &row.period, &row.step];
        let composed = match compose(&letter, &Cover { from: mailer.from(), recipient, key, at: self.clock.now() }) {
            Ok(composed) => composed,
            Err(fault) => {
                self.mark(at_hand, &row, claim, LetterState::Dead, Some(fault.to_string())).await?;
                return Ok(Try::Done);
            }
        };
        mailer.turn().await;
        match session.send(&composed).await {
            Ok(words) => self.mark(at_hand, &row, claim, LetterState::Sent, Some(words)).await?,
            Err(Undelivered::Refused(words)) => self.mark(at_hand, &row, claim, LetterState::Dead, Some(words)).await?,
            Err(Undelivered::Later(words)) => self.fail(at_hand, &row, claim, words).await?,
            Err(Undelivered::Closed(words)) => return Ok(Try::NotBegun(words)),
            Err(Undelivered::Lost(words)) => {
                self.fail(at_hand, &row, claim, words.clone()).await?;
                return Ok(Try::Over(words));
            }
        }
        Ok(Try::Done)
    }

    /// Why a letter is not sent any more.
    async fn why_not(&self, row: &LetterRow, claim: &LetterClaim) -> Result<Option<String>, StoreError> {
        let standing = self.store.standing_of(&row.account).await?;
        let standing = standing.as_ref().map(|(status, end)| (status.as_str(), *end));
        if !is_still_true(&row.step, &row.period, standing) {
            return Ok(Some("what it tells was true no longer".to_owned()));
        }
        let is_old = self.clock.now() - row.since() > self.keep_trying;
        Ok(match &row.recipient {
            None if is_old => {
                Some("no mail address of the account became known within mail.keep_trying_days".to_owned())
            }
            Some(_) if is_old && claim.attempts == 1 => {
                Some("it had waited longer than mail.keep_trying_days".to_owned())
            }
            _ => None,
        })
    }

    /// It is tried again, unless it has been tried for long enough.
    async fn fail(
        &self,
        at_hand: &mut AtHand,
        row: &LetterRow,
        claim: &LetterClaim,
        words: String,
    ) -> Result<(), StoreError> {
        let next = self.clock.now() + pause_after(claim.attempts);
        let is_over = next - row.since() > self.keep_trying;
        let state = if is_over { LetterState::Dead } else { LetterState::Failed };
        self.mark(at_hand, row, claim, state, Some(words)).await
    }

    async fn mark(
        &self,
        at_hand: &mut AtHand,
        row: &LetterRow,
        claim: &LetterClaim,
        state: LetterState,
        words: Option<String>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let (letter_id, step, told) = (&row.id, &row.step, words.as_deref().unwrap_or_default());
        match state {
            LetterState::Dead => {
                error!(letter_id, step, error = told, "a letter is given up: bellwether outbox show {letter_id}");
            }
            LetterState::Failed => warn!(letter_id, step, error = told, "a letter is tried again later"),
            LetterState::Dropped => info!(letter_id, step, reason = told, "a letter is not sent any more"),
            _ => info!(letter_id, step, "a letter was sent"),
        }
        metrics::letter_ended(state.name());
        let next_attempt_at = (state == LetterState::Failed).then(|| at + pause_after(claim.attempts));
        at_hand.ends.push((claim.clone(), LetterEnd { state, words, next_attempt_at, at }));
        self.put_away_ends(at_hand).await
    }

    async fn show(&self) {
        if let Ok(backlog) = self.store.letter_backlog().await {
            let oldest = backlog.oldest.map_or(TimeDelta::zero(), |oldest| self.clock.now() - oldest);
            metrics::letter_backlog(backlog.waiting, oldest, backlog.dead);
        }
    }
}

/// How long to wait after the failure of this attempt.
fn pause_after(attempt: i64) -> TimeDelta {
    TimeDelta::minutes(pause_of(&PAUSES, usize::try_from(attempt - 1).unwrap_or_default()))
}

fn pause_of(pauses: &[i64], failures: usize) -> i64 {
    pauses.get(failures).or(pauses.last()).copied().unwrap_or_default()
}

/// Which letters are to wait anew: one by its id, or all in a state that were written from an instant on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryRequest {
    /// The id of the letter.
    pub id: Option<String>,
    /// All in this state: `failed`, `dead` or `dropped`.
    pub state: Option<LetterState>,
    /// With a state: only what was written at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// Letters that wait anew.
    pub retried: u64,
    /// Whether that is only what would be.
    pub dry_run: bool,
    /// Which.
    pub ids: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RetryRefusal {
    /// The request makes no sense.
    #[error("{0}")]
    Misuse(String),
    /// There is no such letter.
    #[error("there is no letter {0}")]
    NotFound(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The most letters of one call.
const MOST: u32 = 100_000;

/// Lets letters wait anew, on an operator's word.
///
/// # Errors
/// When the request makes no sense, names no letter, or the database fails; then nothing was changed.
pub async fn retry(store: &Store, request: &RetryRequest, now: DateTime<Utc>) -> Result<Retried, RetryRefusal> {
    use LetterState::{Dead, Dropped, Failed, Waiting};
    let rows = match (&request.id, request.state, request.since) {
        (Some(id), None, None) => {
            let found = store.letter(id).await?.ok_or_else(|| RetryRefusal::NotFound(id.clone()))?;
            if !matches!(found.state, Waiting | Failed | Dead | Dropped) {
                return Err(RetryRefusal::Misuse(format!("letter {id} is {}; it is not sent again", found.state)));
            }
            vec![found]
        }
        (None, Some(state @ (Failed | Dead | Dropped)), Some(since)) => {
            let rows = store.letters(Some(state), MOST).await?;
            rows.into_iter().filter(|row| row.created_at >= since).collect()
        }
        (None, Some(state), Some(_)) => {
            return Err(RetryRefusal::Misuse(format!("letters that are {state} are not tried again")));
        }
        _ => return Err(RetryRefusal::Misuse("give `id`, or `state` and `since`".to_owned())),
    };
    let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
    let retried = if request.dry_run { ids.len() as u64 } else { store.retry_letters(&ids, now).await? };
    Ok(Retried { retried, dry_run: request.dry_run, ids })
}
