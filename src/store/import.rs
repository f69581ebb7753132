//! What another system knew of accounts, written in one transaction: all of it or nothing. What is here already stays as it is, so
//! that the same again changes nothing.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::audit::Entry;
use super::billing::{Cause, ensure_account, lock_account, write_change};
use super::billing_rows::load_account;
use super::dialect::{Tx, on};
use super::{Store, StoreError, audit, email_key};
use crate::billing::{Facts, Opening, Rules, Status, settle};

/// An account as it is to be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedAccount {
    /// The site's name for it.
    pub user_id: String,
    /// Its mail address.
    pub email: Option<String>,
    /// The code that its links have.
    pub referral_code: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What it has paid for.
    pub opening: Option<Opening>,
}

/// How far an invite has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedInvite {
    /// Key, the same each time.
    pub id: String,
    /// Who invited.
    pub inviter: String,
    /// Who was invited.
    pub email: String,
    /// The account of whoever was.
    pub invitee: Option<String>,
    /// `invited`, `accepted` or `paid`.
    pub state: &'static str,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it was paid.
    pub paid_at: Option<DateTime<Utc>>,
}

/// Credit that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRedemption {
    /// Key, the same each time.
    pub id: String,
    /// Whose.
    pub inviter: String,
    /// Paid invites used up.
    pub invites: i64,
    /// When.
    pub at: DateTime<Utc>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// Accounts.
    pub accounts: Vec<ImportedAccount>,
    /// Invites, those first that are to count where an address was invited more than once.
    pub invites: Vec<ImportedInvite>,
    /// Redemptions, oldest first.
    pub redemptions: Vec<ImportedRedemption>,
}

/// How many of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Written now.
    pub new: u64,
    /// Here before.
    pub already: u64,
}

/// Something that was not taken over, or that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind, one of a closed set.
    pub kind: &'static str,
    /// Which row of the old database.
    pub row: String,
    /// What about it.
    pub detail: String,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Accounts.
    pub accounts: Taken,
    /// Subscriptions.
    pub subscriptions: Taken,
    /// Invites.
    pub invites: Taken,
    /// Redemptions.
    pub redemptions: Taken,
    /// What met something here that it cannot live with.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Writes it. A dry run does the same and undoes it.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn import(
        &self,
        import: &Import,
        rules: &Rules,
        cause: &Cause,
        now: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Imported, StoreError> {
        let mut tx = self.begin().await?;
        let mut done = Imported::default();
        for account in &import.accounts {
            write_account(&mut tx, account, cause, now, &mut done).await?;
            if let Some(opening) = &account.opening {
                write_opening(&mut tx, &account.user_id, opening, rules, cause, now, &mut done).await?;
            }
        }
        for invite in &import.invites {
            write_invite(&mut tx, invite, cause, now, &mut done).await?;
        }
        for redemption in &import.redemptions {
            write_redemption(&mut tx, redemption, cause, now, &mut done).await?;
        }
        if !dry_run {
            tx.commit().await?;
        }
        Ok(done)
    }
}

async fn write_account(
    tx: &mut Tx,
    account: &ImportedAccount,
    cause: &Cause,
    now: DateTime<Utc>,
    done: &mut Imported,
) -> Result<(), StoreError> {
    const KNOWN: &str = "SELECT referral_code FROM accounts WHERE user_id = $1";
    const CODE: &str = "UPDATE accounts SET referral_code = $2 WHERE user_id = $1 \
         AND NOT EXISTS (SELECT 1 FROM accounts other WHERE other.referral_code = $2)";
    let user_id = account.user_id.as_str();
    let known = on!(tx.handle(), (String,), KNOWN, [user_id], fetch_optional)?;
    let is_new = known.is_none();
    // An account that is here without an address gets it.
    ensure_account(tx, user_id, account.email.as_deref(), "import", account.created_at).await?;
    lock_account(tx, user_id).await?;
    let row = || format!("auth_user {user_id}");
    if let Some(code) = &account.referral_code {
        let here = known.map(|(here,)| here);
        if is_new && on!(tx.handle(), CODE, [user_id, code])? == 0 {
            let detail = format!("its code {code} is another account's here; it has got a new one");
            done.findings.push(Finding { kind: "code_taken", row: row(), detail });
        }
        if let Some(here) = here.filter(|here| here != code) {
            let detail = format!("it has the code {here} here already; links with its old code {code} lead nowhere");
            done.findings.push(Finding { kind: "code_differs", row: row(), detail });
        }
    }
    if !is_new {
        done.accounts.already += 1;
        return Ok(());
    }
    done.accounts.new += 1;
    let after = serde_json::json!({ "account": user_id, "referral_code": account.referral_code }).to_string();
    audit::write(tx, user_id, &Entry { cause: cause.clone(), before: None, after: Some(after) }, now).await
}

/// What it had paid for becomes a fact, and where it stands follows from that. Nobody is written to: that is not news.
async fn write_opening(
    tx: &mut Tx,
    user_id: &str,
    opening: &Opening,
    rules: &Rules,
    cause: &Cause,
    now: DateTime<Utc>,
    done: &mut Imported,
) -> Result<(), StoreError> {
    const LAPSE: &str = "UPDATE subscriptions SET lapse_end = $2, lapse_status = $3 WHERE user_id = $1";
    let before = load_account(&mut tx.handle(), user_id, true).await?;
    if before.subscription.is_some() {
        done.subscriptions.already += 1;
        return Ok(());
    }
    let mut facts = Facts { opening: Some(opening.clone()), ..before.facts.clone() };
    let is_over = opening.end + rules.give_up <= now || !opening.auto_renew && opening.end <= now;
    // What was over long ago is over: the night is not to find that out, and write to everybody about it.
    facts.lapse = is_over.then_some(crate::billing::Lapse { period_end: opening.end, status: Status::Expired });
    let lapse = facts.lapse;
    let (after, _) = settle(&before, facts, Vec::new(), rules, now);
    write_change(tx, user_id, &before, &after, &[], rules, cause, now).await?;
    if let Some(lapse) = lapse {
        on!(tx.handle(), LAPSE, [user_id, lapse.period_end, lapse.status.name()])?;
    }
    done.subscriptions.new += 1;
    Ok(())
}

async fn write_invite(
    tx: &mut Tx,
    invite: &ImportedInvite,
    cause: &Cause,
    now: DateTime<Utc>,
    done: &mut Imported,
) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO invites (id, inviter, email, email_key, state, invitee, created_at, accepted_at, paid_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    const KNOWN: &str = "SELECT id, inviter FROM invites WHERE email_key = $1 OR id = $2 ORDER BY id LIMIT 1";
    const CREDIT: &str = "INSERT INTO credits (id, user_id, delta, reason, source, at) \
         VALUES ($1, $2, 1, 'invite_paid', $3, $4) ON CONFLICT (reason, source) DO NOTHING";
    let ImportedInvite { id, inviter, email, invitee, state, created_at, paid_at } = invite;
    let key = email_key(email);
    let accepted = (*state != "invited").then_some(paid_at.unwrap_or(*created_at));
    let values = on!(
        tx.handle(),
        INSERT,
        [id, inviter, email, &key, *state, invitee.as_deref(), *created_at, accepted, *paid_at]
    )?;
    if values == 0 {
        let (known, by) = on!(tx.handle(), (String, String), KNOWN, [&key, id], fetch_one)?;
        if known == *id {
            done.invites.already += 1;
        } else {
            let detail = format!("{email} was invited by account {by} too, and one invite of an address counts");
            done.findings.push(Finding { kind: "invited_twice", row: row_of(id), detail });
        }
        return Ok(());
    }
    done.invites.new += 1;
    if *state == "paid" {
        let source = format!("{id}#1");
        on!(tx.handle(), CREDIT, [uuid::Uuid::now_v7().to_string(), inviter, source, paid_at.unwrap_or(*created_at)])?;
    }
    let after = serde_json::json!({ "invite": id, "state": state }).to_string();
    lock_account(tx, inviter).await?;
    audit::write(tx, inviter, &Entry { cause: cause.clone(), before: None, after: Some(after) }, now).await
}

/// The old site could use one credit several times. What goes beyond the credit there was is not held against anybody.
async fn write_redemption(
    tx: &mut Tx,
    redemption: &ImportedRedemption,
    cause: &Cause,
    now: DateTime<Utc>,
    done: &mut Imported,
) -> Result<(), StoreError> {
    const KNOWN: &str = "SELECT id FROM credits WHERE reason = 'redeemed' AND source = $1";
    const BALANCE: &str = "SELECT CAST(COALESCE(SUM(delta), 0) AS BIGINT) FROM credits WHERE user_id = $1";
    const INSERT: &str =
        "INSERT INTO credits (id, user_id, delta, reason, source, at) VALUES ($1, $2, $3, 'redeemed', $4, $5)";
    let ImportedRedemption { id, inviter, invites, at } = redemption;
    if on!(tx.handle(), (String,), KNOWN, [id], fetch_optional)?.is_some() {
        done.redemptions.already += 1;
        return Ok(());
    }
    lock_account(tx, inviter).await?;
    let (balance,) = on!(tx.handle(), (i64,), BALANCE, [inviter], fetch_one)?;
    if balance < *invites {
        let detail = format!("it used {invites} paid invites of account {inviter}, which had {balance} left");
        done.findings.push(Finding { kind: "credit_used_twice", row: row_of(id), detail });
        return Ok(());
    }
    on!(tx.handle(), INSERT, [uuid::Uuid::now_v7().to_string(), inviter, -*invites, id, *at])?;
    done.redemptions.new += 1;
    let after = serde_json::json!({ "redeemed": invites, "redemption": id }).to_string();
    audit::write(tx, inviter, &Entry { cause: cause.clone(), before: None, after: Some(after) }, now).await
}

/// The row of the old database that an id was made of.
fn row_of(id: &str) -> String {
    id.trim_start_matches("import:").replacen(':', " ", 1)
}
