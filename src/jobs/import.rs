//! Taking over what the old site knew. Its rows are read as they are and judged one by one: what holds becomes facts of an account,
//! with `import` as their origin; what was never right there is left behind, and told.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::billing::period::after_months;
use crate::billing::{BillingCycle, FREE, Opening, Rules, Terms};
use crate::store::{
    Cause, Finding, Import, ImportedAccount, ImportedInvite, ImportedRedemption, OldInvite, OldReferralAccount,
    OldSite, OldUser, Store, StoreError, Taken, email_key, old_instant,
};

/// Findings that are listed one by one; all are counted.
const MOST_FINDINGS: usize = 100_000;

/// The longest code that is taken over, in characters.
const LONGEST_CODE: usize = 16;

/// What is left where it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotPortable {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: i64,
    /// Why.
    pub why: &'static str,
}

/// What was found in the old database, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it is only what would be.
    pub dry_run: bool,
    /// Accounts.
    pub accounts: Taken,
    /// Of those in the old database, disabled there.
    pub disabled: u64,
    /// Subscriptions.
    pub subscriptions: Taken,
    /// Accounts that have nothing paid for.
    pub free: u64,
    /// Invites, and the credit of the paid ones.
    pub invites: Taken,
    /// Credit that was used.
    pub redemptions: Taken,
    /// Tables that are not there.
    pub missing_tables: Vec<String>,
    /// What is left where it is.
    pub not_portable: Vec<NotPortable>,
    /// How many findings there are.
    pub findings_count: usize,
    /// Each: what was refused, or should be looked at.
    pub findings: Vec<Finding>,
}

/// Takes over what an old site knew, or says what that would be (`dry_run`). `accept_unproved`: also plans for which no payment is on
/// record.
///
/// # Errors
/// When the database fails; then nothing was written.
pub async fn import(
    store: &Store,
    old: &OldSite,
    rules: &Rules,
    accept_unproved: bool,
    now: DateTime<Utc>,
    dry_run: bool,
) -> Result<Report, StoreError> {
    let (import, judged) = judge(old, rules, accept_unproved, now);
    let cause = Cause { actor: "import".to_owned(), cause: "import django".to_owned(), request_id: None };
    let done = store.import(&import, rules, &cause, now, dry_run).await?;
    let mut findings = judged.findings;
    findings.extend(done.findings);
    let findings_count = findings.len();
    findings.truncate(MOST_FINDINGS);
    let why = "keys of the API are kept there as hashes of another kind; their holders make new ones";
    let not_portable =
        old.not_portable.iter().map(|(table, rows)| NotPortable { table: table.clone(), rows: *rows, why });
    Ok(Report {
        dry_run,
        accounts: done.accounts,
        disabled: old.users.iter().filter(|user| user.is_active == 0).count() as u64,
        subscriptions: done.subscriptions,
        free: judged.free,
        invites: done.invites,
        redemptions: done.redemptions,
        missing_tables: old.missing.clone(),
        not_portable: not_portable.collect(),
        findings_count,
        findings,
    })
}

#[derive(Default)]
struct Judged {
    free: u64,
    findings: Vec<Finding>,
}

impl Judged {
    fn find(&mut self, kind: &'static str, row: String, detail: impl Into<String>) {
        self.findings.push(Finding { kind, row, detail: detail.into() });
    }
}

/// PURE: what is taken over, and what is told of the rest.
fn judge(old: &OldSite, rules: &Rules, accept_unproved: bool, now: DateTime<Utc>) -> (Import, Judged) {
    let mut judged = Judged::default();
    let owners = Owners::of(old, &mut judged);
    let mut import = Import::default();
    let mut addresses: BTreeMap<String, i64> = BTreeMap::new();
    for user in &old.users {
        let row = format!("auth_user {}", user.id);
        let Some(created_at) = old_instant(&user.joined) else {
            judged.find("unreadable", row, format!("date_joined is {:?}", user.joined));
            continue;
        };
        let email = Some(user.email.trim().to_owned()).filter(|email| email.contains('@'));
        if email.is_none() {
            judged.find("no_address", row.clone(), "it has no mail address, so no letter reaches it");
        }
        if let Some(other) = email.as_ref().and_then(|email| addresses.insert(email_key(email), user.id)) {
            judged.find("address_twice", row.clone(), format!("it has the address of auth_user {other} too"));
        }
        let opening = match opening_of(user, rules, accept_unproved, now) {
            Ok(Some((opening, remark))) => {
                if let Some(remark) = remark {
                    judged.find("paid_far_ahead", row, remark);
                }
                Some(opening)
            }
            Ok(None) => {
                judged.free += 1;
                None
            }
            Err((kind, detail)) => {
                judged.find(kind, row, detail);
                None
            }
        };
        let referral_code = owners.codes.get(&user.id).cloned();
        import.accounts.push(ImportedAccount {
            user_id: user.id.to_string(),
            email,
            referral_code,
            created_at,
            opening,
        });
    }
    judge_invites(old, &owners, &mut import, &mut judged);
    judge_redemptions(old, &owners, &mut import, &mut judged);
    (import, judged)
}

type Remark = Option<String>;

/// What a profile has paid for, or why that is not believed.
fn opening_of(
    user: &OldUser,
    rules: &Rules,
    accept_unproved: bool,
    now: DateTime<Utc>,
) -> Result<Option<(Opening, Remark)>, (&'static str, String)> {
    let Some(plan) = user.plan.as_deref().map(|plan| plan.trim().to_lowercase()) else { return Ok(None) };
    if plan.is_empty() || plan == FREE {
        return Ok(None);
    }
    let Some((name, _)) = rules.plan(&plan) else {
        return Err(("unknown_plan", format!("plan {plan:?} is none of billing.api_limits and billing.aliases")));
    };
    let cycle = match user.billing_cycle.as_deref().unwrap_or_default().trim().to_lowercase().as_str() {
        "monthly" | "month" => BillingCycle::Monthly,
        "annual" | "yearly" | "year" | "annually" => BillingCycle::Annual,
        other => return Err(("unknown_cycle", format!("plan {plan}: billing cycle {other:?}"))),
    };
    let Some(next) = user.next_billing.as_deref() else {
        return Err((
            "never_paid",
            format!("plan {plan} has no date up to which it is paid: the old site gave it away"),
        ));
    };
    let Some(end) = old_instant(next) else { return Err(("unreadable", format!("next_billing_date is {next:?}"))) };
    if user.has_paid == 0 && !accept_unproved {
        let words = "no payment of it is on record: the old site gave it away, or did not write it down";
        return Err((
            "never_paid",
            format!("plan {plan} to {}: {words}; --accept-unproved takes it over", end.date_naive()),
        ));
    }
    let auto_renew = user.auto_renew == Some(1) && user.status.as_deref() != Some("canceled");
    let longest = after_months(now, cycle.months() * 2);
    let remark =
        (end > longest).then(|| format!("plan {plan} is paid to {}, more than two cycles ahead", end.date_naive()));
    Ok(Some((Opening { end, terms: Terms { plan: name.to_owned(), cycle }, auto_renew }, remark)))
}

/// Whose what the old site called by a `uid` is: callers could claim anything there.
struct Owners {
    users: BTreeSet<i64>,
    by_uid: BTreeMap<String, i64>,
    by_code: BTreeMap<String, i64>,
    /// The code of each account.
    codes: BTreeMap<i64, String>,
}

impl Owners {
    fn of(old: &OldSite, judged: &mut Judged) -> Self {
        let mut owners = Self {
            users: old.users.iter().map(|user| user.id).collect(),
            by_uid: BTreeMap::new(),
            by_code: BTreeMap::new(),
            codes: BTreeMap::new(),
        };
        for account in &old.referral_accounts {
            let OldReferralAccount { id, user_id, inviter_uid, referral_code } = account;
            let row = format!("stocks_referralaccount {id}");
            let Some(user) = user_id.or(inviter_uid.trim().parse().ok()).filter(|user| owners.users.contains(user))
            else {
                judged.find("nobodys_code", row, format!("code {referral_code} is no account's"));
                continue;
            };
            owners.by_uid.insert(inviter_uid.clone(), user);
            owners.by_code.insert(referral_code.clone(), user);
            let code = referral_code.trim();
            let is_plain = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            if code.is_empty() || code.len() > LONGEST_CODE || !is_plain {
                judged.find("unreadable", row, format!("code {referral_code:?}"));
            } else if let Some(first) = owners.codes.get(&user) {
                judged.find("second_code", row, format!("account {user} keeps its code {first}; {code} leads nowhere"));
            } else {
                owners.codes.insert(user, code.to_owned());
            }
        }
        owners
    }

    fn inviter_of(&self, invite: &OldInvite) -> Option<i64> {
        let by_id = invite.inviter_id.filter(|id| self.users.contains(id));
        let by_code = || self.by_code.get(&invite.referral_code).copied();
        by_id.or_else(by_code).or_else(|| self.of_uid(&invite.inviter_uid))
    }

    fn of_uid(&self, uid: &str) -> Option<i64> {
        let own = || uid.trim().parse().ok().filter(|id| self.users.contains(id));
        self.by_uid.get(uid).copied().or_else(own)
    }
}

fn judge_invites(old: &OldSite, owners: &Owners, import: &mut Import, judged: &mut Judged) {
    let addresses: BTreeMap<i64, String> = old.users.iter().map(|user| (user.id, email_key(&user.email))).collect();
    let mut invites = Vec::new();
    for invite in &old.invites {
        let row = format!("stocks_referralinvite {}", invite.id);
        let Some(inviter) = owners.inviter_of(invite) else {
            judged.find(
                "nobodys_invite",
                row,
                format!("{} was invited by no account that there is", invite.invitee_email),
            );
            continue;
        };
        let email = invite.invitee_email.trim();
        if addresses.get(&inviter).is_some_and(|own| *own == email_key(email))
            || invite.invitee_user_id == Some(inviter)
        {
            judged.find("invited_oneself", row, format!("account {inviter} invited its own address"));
            continue;
        }
        let state = match invite.status.trim() {
            "invited" => "invited",
            "accepted" => "accepted",
            "paid" => "paid",
            other => {
                judged.find("unreadable", row, format!("status {other:?}"));
                continue;
            }
        };
        let paid_at = invite.paid.as_deref().and_then(old_instant).filter(|_| state == "paid");
        let Some(created_at) = old_instant(&invite.created).filter(|_| email.contains('@')) else {
            judged.find("unreadable", row, format!("address {email:?}, made {:?}", invite.created));
            continue;
        };
        let invitee = invite.invitee_user_id.filter(|id| owners.users.contains(id)).map(|id| id.to_string());
        let id = format!("import:stocks_referralinvite:{}", invite.id);
        let (inviter, email) = (inviter.to_string(), email.to_owned());
        invites.push(ImportedInvite { id, inviter, email, invitee, state, created_at, paid_at });
    }
    // Of several invites of one address the paid one counts, then the first.
    invites.sort_by_key(|invite| (invite.state != "paid", invite.paid_at, invite.created_at));
    import.invites = invites;
}

fn judge_redemptions(old: &OldSite, owners: &Owners, import: &mut Import, judged: &mut Judged) {
    for redemption in &old.redemptions {
        let row = format!("stocks_referralredemption {}", redemption.id);
        let owner = owners.of_uid(&redemption.inviter_uid);
        match (owner, old_instant(&redemption.created)) {
            (Some(owner), Some(at)) if redemption.invites_consumed > 0 => import.redemptions.push(ImportedRedemption {
                id: format!("import:stocks_referralredemption:{}", redemption.id),
                inviter: owner.to_string(),
                invites: redemption.invites_consumed,
                at,
            }),
            (None, _) => judged.find("nobodys_credit", row, format!("{:?} is no account", redemption.inviter_uid)),
            _ => judged.find(
                "unreadable",
                row,
                format!("{} invites at {:?}", redemption.invites_consumed, redemption.created),
            ),
        }
    }
    import.redemptions.sort_by_key(|redemption| redemption.at);
}
