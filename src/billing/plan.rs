//! What is sold, for how much, and the rules of time around it. All of it comes from the configuration.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::{BillingCycle, Money};

/// The name of the plan that costs nothing.
pub const FREE: &str = "free";

/// The most cycles that one charge of a PayPal subscription may pay: after failed payments PayPal adds them up.
const MOST_CYCLES_AT_ONCE: u32 = 12;

/// A plan and a cycle: what a payment buys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Plan, by its own name.
    pub plan: String,
    /// How often it is paid.
    pub cycle: BillingCycle,
}

/// One plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Other names it was sold under.
    pub aliases: Vec<String>,
    /// API calls a month.
    pub api_limit: u32,
    /// What a month costs: any of these. None: it is not sold by the month.
    pub monthly: Vec<Money>,
    /// What a year costs: any of these.
    pub annual: Vec<Money>,
    /// PayPal's ids of the plan paid by the month.
    pub paypal_monthly: Vec<String>,
    /// PayPal's ids of the plan paid by the year.
    pub paypal_annual: Vec<String>,
}

/// The plans by name, and the rules of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Every plan.
    pub plans: BTreeMap<String, Plan>,
    /// How long an unpaid subscription keeps its access; a payment within it goes on from the end of the period.
    pub grace: TimeDelta,
    /// How long after the end of the period an unpaid subscription is given up.
    pub give_up: TimeDelta,
    /// How long a new PayPal subscription has access before its first payment is seen.
    pub first_payment: TimeDelta,
    /// How long until a payment provider that gave no answer is asked again.
    pub ask_again: TimeDelta,
    /// Paid invites that make one free month.
    pub invites_per_month: i64,
}

impl Rules {
    /// The plan of a name or of an older name.
    pub fn plan(&self, name: &str) -> Option<(&str, &Plan)> {
        let own = self.plans.get_key_value(name);
        let by_alias = || self.plans.iter().find(|(_, plan)| plan.aliases.iter().any(|alias| alias == name));
        own.or_else(by_alias).map(|(name, plan)| (name.as_str(), plan))
    }

    /// What PayPal's id of a plan stands for.
    pub fn terms_of_paypal_plan(&self, id: &str) -> Option<Terms> {
        let has = |ids: &[String]| ids.iter().any(|known| known == id);
        self.plans.iter().find_map(|(name, plan)| {
            let cycle = match (has(&plan.paypal_monthly), has(&plan.paypal_annual)) {
                (true, _) => BillingCycle::Monthly,
                (_, true) => BillingCycle::Annual,
                _ => return None,
            };
            Some(Terms { plan: name.clone(), cycle })
        })
    }

    /// PayPal's id of what the terms cost, where the configuration has one.
    pub fn paypal_plan_of(&self, terms: &Terms) -> Option<&str> {
        let (_, plan) = self.plan(&terms.plan)?;
        let ids = match terms.cycle {
            BillingCycle::Monthly => &plan.paypal_monthly,
            BillingCycle::Annual => &plan.paypal_annual,
        };
        ids.first().map(String::as_str)
    }

    /// Whether the terms have a price.
    pub fn is_sold(&self, terms: &Terms) -> bool {
        !self.prices(terms).is_empty()
    }

    /// The terms under the plan's own name, if that plan is known.
    pub fn known(&self, terms: &Terms) -> Option<Terms> {
        let (name, _) = self.plan(&terms.plan)?;
        Some(Terms { plan: name.to_owned(), cycle: terms.cycle })
    }

    /// Whether `paid` is exactly what the terms cost.
    pub fn is_price(&self, terms: &Terms, paid: Money) -> bool {
        self.prices(terms).contains(&paid)
    }

    /// How many cycles `paid` pays, where it is a price, or a price several times as PayPal charges it after failed payments.
    pub fn cycles_paid(&self, terms: &Terms, paid: Money) -> Option<u32> {
        if self.is_price(terms, paid) {
            return Some(1);
        }
        let fit = self.prices(terms).iter().filter_map(|price| paid.times(*price));
        fit.filter(|times| (1..=MOST_CYCLES_AT_ONCE).contains(times)).min()
    }

    fn prices(&self, terms: &Terms) -> &[Money] {
        self.plan(&terms.plan).map_or(&[], |(_, plan)| match terms.cycle {
            BillingCycle::Monthly => &plan.monthly,
            BillingCycle::Annual => &plan.annual,
        })
    }
}
