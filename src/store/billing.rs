//! Money: what an event does to its account, in one transaction with whatever made it known.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::billing_rows::{load_account, load_adopted, write_effect, write_subscription};
use super::dialect::{Handle, Tx, by_engine, on};
use super::{Store, StoreError, audit, cancellations};
use crate::billing::{Account, Choice, Effect, Event, Rules, What, apply_and_adopt, choose, settle};

/// Who or what changes an account, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `paypal`, `site`, `renewals`, `operator` ..
    pub actor: String,
    /// What made them: the event, the run, the call.
    pub cause: String,
    /// The HTTP request, where there was one.
    pub request_id: Option<String>,
}

/// What an event did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The account; `None`: it is not known whose it is. Then it is kept, and takes effect when that becomes known.
    pub user_id: Option<String>,
    /// What was written down.
    pub effects: Vec<Effect>,
    /// The account afterwards.
    pub account: Account,
}

/// What came of the holder's word on whether it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// It is kept; the account afterwards.
    Done(Box<Account>),
    /// There is no subscription.
    Nobody,
    /// It is over: only a payment begins it again.
    Over,
    /// It has ended at the provider, or is being ended there, and cannot be begun again; a new one is to be approved.
    NeedsApproval,
}

impl Store {
    /// Lets an event take effect in a transaction of its own. The same event again has no effect.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn apply_event(&self, event: &Event, rules: &Rules, now: DateTime<Utc>) -> Result<Applied, StoreError> {
        let mut tx = self.begin().await?;
        let applied = apply_in(&mut tx, event, rules, now).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// What events would do, one after the other: everything is done, and undone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rehearse_events(
        &self,
        events: &[Event],
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<Vec<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        let mut applied = Vec::with_capacity(events.len());
        for event in events {
            applied.push(apply_in(&mut tx, event, rules, now).await?);
        }
        Ok(applied)
    }

    /// Keeps the account holder's own word on whether it goes on, and with it, in the same transaction, that the subscription is to
    /// end at the provider too, or that it is not to any more.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn choose(
        &self,
        user_id: &str,
        choice: Choice,
        rules: &Rules,
        cause: &Cause,
    ) -> Result<Chosen, StoreError> {
        let mut tx = self.begin().await?;
        lock_account(&mut tx, user_id).await?;
        let before = load_account(&mut tx.handle(), user_id, true).await?;
        let Some(subscription) = &before.subscription else { return Ok(Chosen::Nobody) };
        let running = before.facts.running_links();
        if !choice.auto_renew {
            for link in running {
                cancellations::want(&mut tx, user_id, link, choice.at).await?;
            }
        } else if !subscription.has_access(choice.at, rules) {
            return Ok(Chosen::Over);
        } else if before.facts.current_link().is_some()
            && is_paid_by_link(&before)
            && !cancellations::withdraw_one(&mut tx, &running).await?
        {
            return Ok(Chosen::NeedsApproval);
        }
        let (after, effects) = choose(&before, choice, rules);
        write_change(&mut tx, user_id, &before, &after, &effects, rules, cause, choice.at).await?;
        tx.commit().await?;
        Ok(Chosen::Done(Box::new(after)))
    }

    /// Accounts with payments that were not found good, by name, those after `after`: prices may have come back, or been added.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accounts_to_judge(&self, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT DISTINCT user_id FROM payments WHERE good_for_cycles IS NULL AND completed \
             AND user_id > $1 ORDER BY user_id LIMIT $2";
        let mut connection = self.reader().await?;
        let found = on!(connection.handle(), (String,), SQL, [after, i64::from(limit)], fetch_all)?;
        Ok(found.into_iter().map(|(user_id,)| user_id).collect())
    }

    /// Works out anew where an account stands, by what is known of it and the prices of today, and writes it.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn settle(
        &self,
        user_id: &str,
        rules: &Rules,
        cause: &Cause,
        now: DateTime<Utc>,
    ) -> Result<Account, StoreError> {
        let mut tx = self.begin().await?;
        lock_account(&mut tx, user_id).await?;
        let account = settle_in(&mut tx, user_id, rules, cause, now).await?;
        tx.commit().await?;
        Ok(account)
    }

    /// What is known of an account's money.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account_money(&self, user_id: &str) -> Result<Account, StoreError> {
        let mut connection = self.reader().await?;
        load_account(&mut connection.handle(), user_id, false).await
    }
}

/// Whether it is a subscription of the provider's that pays the account, and not (any more) single purchases.
fn is_paid_by_link(account: &Account) -> bool {
    let newest = account.facts.payments.iter().max_by_key(|payment| payment.paid_at);
    newest.is_none_or(|payment| payment.link.is_some())
}

/// Lets an event take effect in the transaction at hand: locks its account, adds what the event tells, works out where the account
/// stands, and writes facts, state, credit, audit, letters and flags. Whoever keeps events writes its own mark into the same
/// transaction and commits.
///
/// # Errors
/// When the database fails; the transaction must be given up.
pub(super) async fn apply_in(
    tx: &mut Tx,
    event: &Event,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<Applied, StoreError> {
    lock_family(tx, event).await?;
    let cause = Cause { actor: event.source.clone(), cause: event.id.clone(), request_id: None };
    let Some(user_id) = owner_of(tx, event).await? else {
        let (_, effects) = apply_and_adopt(&Account::default(), crate::billing::Facts::default(), event, rules, now);
        for effect in effects.iter().filter(|effect| is_kept(effect, event)) {
            write_effect(tx, None, effect, &cause, now).await?;
        }
        return Ok(Applied { user_id: None, effects, account: Account::default() });
    };
    ensure_account(tx, &user_id, email_of(event), &event.source, now).await?;
    lock_account(tx, &user_id).await?;
    let before = load_account(&mut tx.handle(), &user_id, true).await?;
    let adopted = load_adopted(tx, &user_id, event).await?;
    let (after, effects) = apply_and_adopt(&before, adopted, event, rules, now);
    write_change(tx, &user_id, &before, &after, &effects, rules, &cause, now).await?;
    // What ran before the holder gave up, and is told of only now, is to end as well.
    for link in after.facts.links_to_end() {
        cancellations::want(tx, &user_id, link, now).await?;
    }
    Ok(Applied { user_id: Some(user_id), effects, account: after })
}

/// Works out anew where an account stands, with nothing new known, and writes it.
pub(super) async fn settle_in(
    tx: &mut Tx,
    user_id: &str,
    rules: &Rules,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<Account, StoreError> {
    let before = load_account(&mut tx.handle(), user_id, true).await?;
    let (after, effects) = settle(&before, before.facts.clone(), Vec::new(), rules, now);
    write_change(tx, user_id, &before, &after, &effects, rules, cause, now).await?;
    Ok(after)
}

/// Writes what has come of a change of an account whose rows are locked.
#[expect(clippy::too_many_arguments, reason = "one place where a change becomes rows")]
pub(super) async fn write_change(
    tx: &mut Tx,
    user_id: &str,
    before: &Account,
    after: &Account,
    effects: &[Effect],
    rules: &Rules,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for effect in effects {
        write_effect(tx, Some((user_id, after)), effect, cause, now).await?;
    }
    if let Some(subscription) = after.subscription.as_ref().filter(|_| before != after) {
        let next = subscription.next_action_at(now, rules);
        write_subscription(tx, user_id, &after.facts, subscription, next, now).await?;
    }
    if before.subscription != after.subscription {
        let entry = audit::Entry::of_change(before.subscription.as_ref(), after.subscription.as_ref(), cause);
        audit::write(tx, user_id, &entry, now).await?;
    }
    Ok(())
}

/// What is kept of an event while it is not known whose it is. What it is worth is judged when that is known.
fn is_kept(effect: &Effect, event: &Event) -> bool {
    let is_dispute = matches!(event.what, What::Dispute { .. });
    match effect {
        Effect::KeepLink(_) | Effect::KeepPayment(_) | Effect::KeepReversal(_) => true,
        Effect::Operator { .. } => is_dispute,
        _ => false,
    }
}

/// Of a sale and the subscription that it belongs to, or of a payment and its refund, one waits for the other: otherwise neither
/// would see the other, and both would be kept apart for ever. (SQLite has one writer.)
pub(super) async fn lock_family(tx: &mut Tx, event: &Event) -> Result<(), StoreError> {
    const SQL: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let mut keys: Vec<&str> = match &event.what {
        What::Subscription { id, .. } => vec![id],
        What::Payment { id, subscription, .. } => std::iter::once(id).chain(subscription).map(String::as_str).collect(),
        What::Reversal { of, .. } => vec![of],
        What::Dispute { .. } => Vec::new(),
    };
    keys.sort_unstable();
    for key in keys {
        if matches!(tx.handle(), Handle::Postgres(..)) {
            on!(tx.handle(), SQL, [key])?;
        }
    }
    Ok(())
}

/// Whose event it is: the account whose payment or subscription it is about, else as the site wrote on it, else the one with the
/// payer's address, else one of the payer's own. Money is one account's: whose it was found to be before, it stays.
async fn owner_of(tx: &mut Tx, event: &Event) -> Result<Option<String>, StoreError> {
    const OF_LINK: &str = "SELECT user_id FROM billing_links WHERE link_id = $1 AND user_id IS NOT NULL LIMIT 1";
    const OF_PAYMENT: &str = "SELECT user_id FROM payments WHERE id = $1 AND user_id IS NOT NULL";
    const OF_EMAIL: &str = "SELECT user_id FROM accounts WHERE email_key = $1 ORDER BY created_at, user_id LIMIT 1";
    let first = |found: Option<(String,)>| found.map(|(user_id,)| user_id);
    let (link, custom, payer) = match &event.what {
        What::Subscription { id, custom, payer, .. } => (Some(id), custom.as_ref(), payer),
        What::Payment { subscription, custom, payer, .. } => (subscription.as_ref(), custom.as_ref(), payer),
        What::Reversal { of, .. } => return on!(tx.handle(), (String,), OF_PAYMENT, [of], fetch_optional).map(first),
        What::Dispute { payments, .. } => {
            for payment in payments {
                if let Some((user_id,)) = on!(tx.handle(), (String,), OF_PAYMENT, [payment], fetch_optional)? {
                    return Ok(Some(user_id));
                }
            }
            return Ok(None);
        }
    };
    if let What::Payment { id, .. } = &event.what
        && let Some((user_id,)) = on!(tx.handle(), (String,), OF_PAYMENT, [id], fetch_optional)?
    {
        return Ok(Some(user_id));
    }
    if let Some(link) = link
        && let Some((user_id,)) = on!(tx.handle(), (String,), OF_LINK, [link], fetch_optional)?
    {
        return Ok(Some(user_id));
    }
    if let Some(user) = custom.and_then(|custom| custom.user.clone()) {
        return Ok(Some(user));
    }
    if matches!(&event.what, What::Payment { subscription: Some(_), .. }) {
        // The subscription itself will say whose it is.
        return Ok(None);
    }
    if let Some(email) = &payer.email {
        let key = email_key(email);
        if let Some((user_id,)) = on!(tx.handle(), (String,), OF_EMAIL, [key], fetch_optional)? {
            return Ok(Some(user_id));
        }
    }
    Ok(payer.id.as_ref().map(|payer| format!("{}:{payer}", event.source)))
}

fn email_of(event: &Event) -> Option<&str> {
    match &event.what {
        What::Subscription { payer, .. } | What::Payment { payer, .. } => payer.email.as_deref(),
        What::Reversal { .. } | What::Dispute { .. } => None,
    }
}

/// The form in which two ways of writing one address are the same: in small letters, without what follows a plus in the name, and for
/// Gmail, which ignores them, without points.
pub fn email_key(email: &str) -> String {
    let email = email.trim().to_lowercase();
    let Some((name, domain)) = email.rsplit_once('@') else { return email };
    let name = name.split('+').next().unwrap_or_default();
    match domain {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", name.replace('.', "")),
        _ => format!("{name}@{domain}"),
    }
}

/// Makes the account if there is none; an address that is not known yet is kept.
pub(super) async fn ensure_account(
    tx: &mut Tx,
    user_id: &str,
    email: Option<&str>,
    origin: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO accounts (user_id, email, email_key, referral_code, origin, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id) DO NOTHING";
    const UPDATE: &str = "UPDATE accounts SET email = $2, email_key = $3 WHERE user_id = $1 AND email IS NULL";
    let email = email.map(str::trim).filter(|email| email.contains('@'));
    let key = email.map(email_key);
    let code = referral_code();
    let made = on!(tx.handle(), INSERT, [user_id, email, key.clone(), code, origin, now])?;
    if made == 0 && email.is_some() {
        on!(tx.handle(), UPDATE, [user_id, email, key])?;
    }
    Ok(())
}

/// Ten letters and digits that cannot be mistaken for one another: 50 bits, so nobody guesses one.
fn referral_code() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKMNPQRSTVWXYZ0123456789";
    let digest = Sha256::digest(uuid::Uuid::now_v7().as_bytes());
    digest.iter().take(10).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

pub(super) async fn lock_account(tx: &mut Tx, user_id: &str) -> Result<(), StoreError> {
    const SQL: &str = "SELECT user_id FROM accounts WHERE user_id = $1";
    const LOCKED: &str = "SELECT user_id FROM accounts WHERE user_id = $1 FOR UPDATE";
    let sql = by_engine(&tx.handle(), SQL, LOCKED);
    on!(tx.handle(), (String,), sql, [user_id], fetch_optional).map(|_| ())
}
