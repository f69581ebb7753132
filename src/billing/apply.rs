//! What an event does: facts are added, and where the account stands is worked out again.

use chrono::{DateTime, Utc};

use super::{
    Choice, CustomId, Event, Facts, Link, Opening, Payment, Reversal, Rules, Status, Subscription, Terms, Verdict,
    What, derive,
};

/// An account's money.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// What is known.
    pub facts: Facts,
    /// Where it stands by that; `None`: there never was a subscription.
    pub subscription: Option<Subscription>,
}

/// What is to be written down, and who is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Keep this about a subscription of the provider's.
    KeepLink(Link),
    /// Keep this payment; one that was held may be here now.
    KeepPayment(Payment),
    /// Keep what this payment was found to pay for.
    KeepWorth(Payment),
    /// Keep that money was taken back.
    KeepReversal(Reversal),
    /// The subscription stands otherwise than before.
    Changed,
    /// This account pays for the first time, or does so no longer: whoever invited it earns, or loses, the credit.
    Pays(bool),
    /// Write to the account holder.
    Mail(Letter),
    /// An operator must look at it.
    Operator {
        /// A stable name.
        code: &'static str,
        /// In words.
        detail: String,
    },
}

/// What the account holder is written about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Letter {
    /// Paid, after it had lapsed or for the first time.
    Welcome,
    /// It will not go on.
    Canceled,
    /// Access is withheld.
    Suspended,
    /// It is over.
    Expired,
    /// Money was taken back.
    TakenBack,
}

named!(Letter {
    Welcome => "welcome", Canceled => "canceled", Suspended => "suspended", Expired => "expired", TakenBack => "taken_back",
});

/// Adds what an event tells to what is known of the account it belongs to. The same event again, or an older one, adds what it
/// adds and undoes nothing.
pub fn apply(account: &Account, event: &Event, rules: &Rules, at: DateTime<Utc>) -> (Account, Vec<Effect>) {
    apply_and_adopt(account, Facts::default(), event, rules, at)
}

/// The same, with facts that were told before it was known whose they are.
pub fn apply_and_adopt(
    account: &Account,
    adopted: Facts,
    event: &Event,
    rules: &Rules,
    at: DateTime<Utc>,
) -> (Account, Vec<Effect>) {
    let mut facts = account.facts.clone();
    facts.links.extend(adopted.links);
    facts.payments.extend(adopted.payments);
    facts.reversals.extend(adopted.reversals);
    let kept = match &event.what {
        What::Subscription { id, change, created_at, plan_id, custom, .. } => {
            let of_plan = plan_id.as_ref().and_then(|id| rules.terms_of_paypal_plan(id));
            let terms = of_plan.or_else(|| known(custom.as_ref(), rules));
            let created_at = created_at.unwrap_or(event.at);
            keep_link(&mut facts, Link { id: id.clone(), at: event.at, change: *change, created_at, terms })
        }
        What::Payment { id, completed, amount, subscription, custom, .. } => {
            let terms = known(custom.as_ref(), rules);
            let (paid_at, amount, completed) = (event.at, *amount, *completed);
            keep_payment(
                &mut facts,
                Payment {
                    id: id.clone(),
                    paid_at,
                    amount,
                    completed,
                    link: subscription.clone(),
                    terms,
                    good_for: None,
                },
            )
        }
        What::Reversal { id, of, kind, amount } => {
            let reversal = Reversal { id: id.clone(), of: of.clone(), kind: *kind, amount: *amount, at: event.at };
            keep_reversal(&mut facts, reversal)
        }
        What::Dispute { id, payments, state } => {
            let detail = format!("dispute {id} about {} is {state}", payments.join(", "));
            vec![Effect::Operator { code: "dispute", detail }]
        }
    };
    settle(account, facts, kept, rules, at)
}

/// Adds the account holder's own word on whether it goes on.
pub fn choose(account: &Account, choice: Choice, rules: &Rules) -> (Account, Vec<Effect>) {
    let mut facts = account.facts.clone();
    if facts.choice.is_none_or(|before| before.at < choice.at) {
        facts.choice = Some(choice);
    }
    settle(account, facts, Vec::new(), rules, choice.at)
}

/// Works out where the account stands by `facts`, and what that means to others.
pub fn settle(
    before: &Account,
    mut facts: Facts,
    mut effects: Vec<Effect>,
    rules: &Rules,
    at: DateTime<Utc>,
) -> (Account, Vec<Effect>) {
    effects.extend(judge(&before.facts, &mut facts, rules));
    let subscription = derive(&facts, rules, at).or_else(|| as_it_stood(before, &facts, rules, at));
    effects.extend(remarks(&before.facts, &facts, rules));
    // What was found good only now is news, also where the prices of today had made it good unseen; what an earlier version kept
    // without its worth had been good before it is taken back.
    match facts.was_found_paid() {
        true if !before.facts.was_found_paid() => effects.push(Effect::Pays(true)),
        false if before.facts.has_paid(rules) => effects.push(Effect::Pays(false)),
        _ => {}
    }
    if subscription != before.subscription {
        effects.push(Effect::Changed);
        effects.extend(letter(before.subscription.as_ref(), subscription.as_ref()).map(Effect::Mail));
    }
    (Account { facts, subscription }, effects)
}

/// Finds out what payments pay for, once for each: other prices later change nothing about it, more that is known of it does.
fn judge(before: &Facts, facts: &mut Facts, rules: &Rules) -> Vec<Effect> {
    let judged = facts.payments.iter().map(|payment| {
        let found = facts.is_to_be_judged(payment, before).then(|| facts.judge(payment, rules));
        match found {
            Some(Verdict::Pays(terms, cycles)) => Some((terms, cycles)),
            _ => payment.good_for.clone(),
        }
    });
    let judged: Vec<_> = judged.collect();
    let mut effects = Vec::new();
    for (payment, good_for) in facts.payments.iter_mut().zip(judged) {
        if payment.good_for != good_for {
            payment.good_for = good_for;
            effects.push(Effect::KeepWorth(payment.clone()));
        }
    }
    effects
}

/// A subscription that there was does not vanish with the price of what paid for it: what was paid for stays so.
fn as_it_stood(before: &Account, facts: &Facts, rules: &Rules, at: DateTime<Utc>) -> Option<Subscription> {
    let Subscription { current_period_end: end, terms, auto_renew, .. } = before.subscription.clone()?;
    derive(&Facts { opening: Some(Opening { end, terms, auto_renew }), ..facts.clone() }, rules, at)
}

fn known(custom: Option<&CustomId>, rules: &Rules) -> Option<Terms> {
    custom.and_then(|custom| rules.known(&custom.terms))
}

fn keep_link(facts: &mut Facts, link: Link) -> Vec<Effect> {
    let is_same = |known: &&mut Link| known.id == link.id && known.at == link.at && known.change == link.change;
    match facts.links.iter_mut().find(is_same) {
        // The same again may say more than before, never less.
        Some(known) if known.terms.is_none() && link.terms.is_some() => *known = link.clone(),
        Some(_) => return Vec::new(),
        None => facts.links.push(link.clone()),
    }
    vec![Effect::KeepLink(link)]
}

fn keep_payment(facts: &mut Facts, payment: Payment) -> Vec<Effect> {
    match facts.payments.iter_mut().find(|known| known.id == payment.id) {
        // Held before, here now: what came counts. Told with two times, the earlier one counts, whichever is told first.
        Some(known) if (!known.completed, known.paid_at) > (!payment.completed, payment.paid_at) => {
            // What it was found to pay for is no news that it brings.
            *known = Payment { good_for: known.good_for.clone(), ..payment.clone() }
        }
        Some(_) => return Vec::new(),
        None => facts.payments.push(payment.clone()),
    }
    vec![Effect::KeepPayment(payment)]
}

fn keep_reversal(facts: &mut Facts, reversal: Reversal) -> Vec<Effect> {
    if facts.reversals.iter().any(|known| known.id == reversal.id && known.kind == reversal.kind) {
        return Vec::new();
    }
    facts.reversals.push(reversal.clone());
    vec![Effect::KeepReversal(reversal)]
}

/// What an operator should know about payments whose worth has changed.
fn remarks(before: &Facts, after: &Facts, rules: &Rules) -> Vec<Effect> {
    let mut remarks = Vec::new();
    for payment in &after.payments {
        let verdict = after.verdict(payment, rules);
        let known = before.payments.iter().find(|known| known.id == payment.id);
        if known.is_some_and(|known| before.verdict(known, rules) == verdict) {
            continue;
        }
        let (code, words) = match &verdict {
            Verdict::Pays(..) | Verdict::Pending => continue,
            Verdict::WrongAmount => ("wrong_amount", "is not what it should pay for costs"),
            Verdict::UnknownPlan => ("unknown_plan", "is for nothing that is sold here"),
            Verdict::TakenBack(_) => ("taken_back", "was taken back"),
        };
        remarks
            .push(Effect::Operator { code, detail: format!("payment {} of {} {words}", payment.id, payment.amount) });
        if matches!(verdict, Verdict::TakenBack(_)) {
            remarks.push(Effect::Mail(Letter::TakenBack));
        }
    }
    remarks
}

fn letter(before: Option<&Subscription>, after: Option<&Subscription>) -> Option<Letter> {
    let (was, is) = (before.map(|before| before.status), after?.status);
    match (was, is) {
        (Some(was), is) if was == is => None,
        (None | Some(Status::Expired | Status::Suspended), Status::Active) => Some(Letter::Welcome),
        (_, Status::Canceled) => Some(Letter::Canceled),
        (_, Status::Suspended) => Some(Letter::Suspended),
        (Some(_), Status::Expired) => Some(Letter::Expired),
        _ => None,
    }
}
