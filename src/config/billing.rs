//! What is sold and the rules of time around it.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::value::Origin;
use crate::billing::{BillingCycle, Currency, FREE, Money, Plan, Rules};

/// The most pages of a sitemap, and the longest address in one (sitemaps.org).
const MOST_PAGES: usize = 50_000;
const LONGEST_PAGE: usize = 2_047;

/// The site whose accounts are kept here.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// Accepted tokens of its server, newest first; none: its calls are closed.
    pub tokens: Vec<SecretString>,
    /// Where its pages are; links in letters and invites begin with it.
    pub frontend_url: String,
    /// The addresses of those that search engines are told of; none: there is neither a sitemap nor a robots.txt.
    pub pages: Vec<Url>,
    /// Invites that one account may send within an hour.
    pub invites_per_hour: u32,
    /// Domains whose addresses cannot be invited, in small letters.
    pub disposable_domains: Vec<String>,
    /// Where the site renews subscriptions by itself, and is called to do so; `None`: they are renewed here.
    pub renews_at: Option<Url>,
    /// Days past due of each reminder, rising.
    pub dunning_days: Vec<i64>,
}

/// How many subscriptions one run handles, and how many it reads at a time.
pub(super) fn read_limits(reader: &mut Reader<'_>) -> (u32, u32) {
    (reader.integer("renewals.limit", 1..=1_000_000), reader.integer("renewals.batch", 1..=10_000))
}

pub(super) fn read_site(reader: &mut Reader<'_>) -> SiteConfig {
    let tokens = reader.secrets("site.token");
    let frontend_url = reader.text("site.frontend_url").unwrap_or_default();
    if !Url::parse(&frontend_url).is_ok_and(|url| url.has_host() && ["http", "https"].contains(&url.scheme())) {
        reader.refuse("site.frontend_url", format!("{frontend_url:?} is not an address"), "write https://HOST");
    }
    let pages = read_pages(reader, &frontend_url);
    let invites_per_hour = reader.integer("referrals.invites_per_hour", 1_u32..=10_000);
    let domains = reader.list("referrals.disposable_domains");
    let disposable_domains = domains.iter().map(|domain| domain.trim_start_matches('@').to_lowercase()).collect();
    let renews_at = read_mode(reader);
    let dunning_days = read_dunning_days(reader);
    SiteConfig { tokens, frontend_url, pages, invites_per_hour, disposable_domains, renews_at, dunning_days }
}

/// Each a path below the address of the site.
fn read_pages(reader: &mut Reader<'_>, frontend_url: &str) -> Vec<Url> {
    let key = "site.pages";
    let base = frontend_url.trim_end_matches('/');
    let mut pages = Vec::new();
    for path in reader.list(key) {
        let is_path = path.starts_with('/') && !path.starts_with("//") && !path.contains(['#', '\\']);
        let is_clean = !path.contains(|character: char| character.is_whitespace() || character.is_control());
        match Url::parse(&format!("{base}{path}")) {
            Ok(url) if is_path && is_clean && url.as_str().len() <= LONGEST_PAGE => pages.push(url),
            // An address that is none has been refused already.
            Err(_) if is_path && is_clean => {}
            _ => reader.refuse(key, format!("{path:?} is not the path of a page"), "write each as \"/pricing\""),
        }
    }
    if pages.len() > MOST_PAGES {
        reader.refuse(key, format!("{} pages are more than a sitemap takes", pages.len()), "name at most 50,000");
    }
    pages
}

fn read_mode(reader: &mut Reader<'_>) -> Option<Url> {
    let (mode, base) = (reader.text("renewals.mode"), reader.text("renewals.api_base_url"));
    match mode.as_deref() {
        Some("local") => None,
        Some("http") => {
            let url = base.and_then(|base| Url::parse(&base).ok()).filter(Url::has_host);
            if url.is_none() {
                let message = "renewals.mode is \"http\", and the address of the site's API is missing or none";
                reader.refuse("renewals.api_base_url", message, "set API_BASE_URL=https://HOST");
            }
            if reader.origin("cron_secret") == Origin::Unset {
                reader.refuse(
                    "renewals.mode",
                    "the site is called with CRON_SECRET, and there is none",
                    "set CRON_SECRET",
                );
            }
            url
        }
        _ => {
            reader.refuse("renewals.mode", "this is not a mode", "write \"local\" or \"http\"");
            None
        }
    }
}

fn read_dunning_days(reader: &mut Reader<'_>) -> Vec<i64> {
    let (key, fix) = ("dunning.days", "write rising days past due, e.g. [\"0\", \"3\", \"7\", \"13\"]");
    let days: Vec<Option<i64>> = reader.list(key).iter().map(|day| day.parse().ok()).collect();
    let days: Option<Vec<i64>> = days.into_iter().collect();
    match days {
        Some(days) if days.iter().all(|day| (0..=365).contains(day)) && days.is_sorted_by(|a, b| a < b) => days,
        _ => {
            reader.refuse(key, "the days are not whole numbers from 0 to 365 that rise", fix);
            Vec::new()
        }
    }
}

const PLANS: &str = "billing.api_limits";

pub(super) fn read(reader: &mut Reader<'_>) -> Rules {
    let currency = reader.parse("billing.currency", "a currency code such as \"USD\"").unwrap_or(Currency::USD);
    let mut plans = read_plans(reader);
    read_prices(reader, &mut plans, BillingCycle::Monthly, currency);
    read_prices(reader, &mut plans, BillingCycle::Annual, currency);
    read_aliases(reader, &mut plans);
    read_paypal_plans(reader, &mut plans);
    let days = |reader: &mut Reader<'_>, key| TimeDelta::days(reader.integer(key, 0_i64..=365));
    let grace = days(reader, "billing.grace_days");
    let give_up = days(reader, "billing.give_up_days");
    if give_up < grace {
        let message = "a subscription would be given up before its grace ends";
        reader.refuse("billing.give_up_days", message, "choose at least billing.grace_days");
    }
    Rules {
        plans,
        grace,
        give_up,
        first_payment: days(reader, "billing.first_payment_days"),
        ask_again: TimeDelta::minutes(reader.integer("billing.ask_again_minutes", 1_i64..=1_440)),
        invites_per_month: reader.integer("billing.invites_per_month", 1_i64..=1_000),
    }
}

fn read_plans(reader: &mut Reader<'_>) -> BTreeMap<String, Plan> {
    let fix = "write each as \"plan calls\", e.g. \"gold 100000\"";
    let mut plans = BTreeMap::new();
    for item in reader.list(PLANS) {
        match words(&item).map(|[name, limit]| (name.to_lowercase(), limit.parse())) {
            Some((name, Ok(api_limit))) => {
                let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                let is_new = plans.insert(name, Plan { api_limit, ..Plan::default() }).is_none();
                if !is_name || !is_new {
                    let message = format!("{item:?}: a plan has a name of its own, of letters, digits and dashes");
                    reader.refuse(PLANS, message, fix);
                }
            }
            _ => reader.refuse(PLANS, format!("{item:?} is not a plan and its API calls a month"), fix),
        }
    }
    if !plans.contains_key(FREE) {
        reader.refuse(PLANS, "there is no plan \"free\": it is what an account has that does not pay", fix);
    }
    plans
}

fn read_prices(reader: &mut Reader<'_>, plans: &mut BTreeMap<String, Plan>, cycle: BillingCycle, currency: Currency) {
    let key = match cycle {
        BillingCycle::Monthly => "billing.monthly_prices",
        BillingCycle::Annual => "billing.annual_prices",
    };
    let fix = "write each as \"plan amount\", e.g. \"gold 79.99\"";
    for item in reader.list(key) {
        let Some([name, amount]) = words(&item) else {
            reader.refuse(key, format!("{item:?} is not a plan and its price"), fix);
            continue;
        };
        match (plans.get_mut(name), Money::parse(amount, currency)) {
            (None, _) => {
                reader.refuse(key, format!("{item:?}: there is no plan {name:?}"), "name it in billing.api_limits")
            }
            (_, Err(fault)) => reader.refuse(key, fault, fix),
            (_, Ok(price)) if price.minor <= 0 => {
                reader.refuse(key, format!("{item:?}: a price is more than zero"), fix);
            }
            (Some(plan), Ok(price)) => match cycle {
                BillingCycle::Monthly => plan.monthly.push(price),
                BillingCycle::Annual => plan.annual.push(price),
            },
        }
    }
}

fn read_aliases(reader: &mut Reader<'_>, plans: &mut BTreeMap<String, Plan>) {
    let (key, fix) = ("billing.aliases", "write each as \"older plan\", e.g. \"premium gold\"");
    for item in reader.list(key) {
        match words(&item) {
            Some([alias, _]) if plans.contains_key(alias) => {
                reader.refuse(key, format!("{item:?}: {alias:?} is a plan itself"), fix);
            }
            Some([alias, name]) if plans.contains_key(name) => {
                let alias = alias.to_lowercase();
                plans.entry(name.to_owned()).and_modify(|plan| plan.aliases.push(alias));
            }
            _ => reader.refuse(key, format!("{item:?} is not an older name and a plan"), fix),
        }
    }
}

fn read_paypal_plans(reader: &mut Reader<'_>, plans: &mut BTreeMap<String, Plan>) {
    let key = "billing.paypal_plans";
    let fix = "write each as \"id plan cycle\", e.g. \"P-5ML4271244454362WXNWU5NQ gold monthly\"";
    for item in reader.list(key) {
        let found = words(&item).and_then(|[id, name, cycle]| {
            let plan = plans.get_mut(name)?;
            Some((id.to_owned(), plan, cycle.parse().ok()?))
        });
        match found {
            Some((id, plan, BillingCycle::Monthly)) => plan.paypal_monthly.push(id),
            Some((id, plan, BillingCycle::Annual)) => plan.paypal_annual.push(id),
            None => reader.refuse(key, format!("{item:?} is not PayPal's id of a plan, a plan and a cycle"), fix),
        }
    }
}

fn words<const N: usize>(item: &str) -> Option<[&str; N]> {
    item.split_whitespace().collect::<Vec<_>>().try_into().ok()
}
