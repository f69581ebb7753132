//! The daemon as its users see it: real parts, a clock that can be moved, and a simulated world outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfill_command;
mod calendar;
mod commands;
mod components;
mod cors;
mod disk;
mod doctor;
mod faketime;
mod fetching;
mod harness;
mod history;
mod inbox;
mod inbox_commands;
mod ingestion;
mod kill_points;
mod killed;
mod leadership;
mod ledger;
mod observability;
mod operations;
mod pooler;
mod process;
mod providers_alpaca;
mod providers_lists;
mod providers_yahoo;
mod reading;
mod references;
mod renamed;
mod renewals;
mod serving;
mod sim_directory;
mod sim_host;
mod sim_massive;
mod sim_paypal;
mod sim_sentry;
mod simulated_exchange;
#[macro_use]
mod store;
mod cancellations;
mod dunning;
mod manners;
mod plans;
mod referrals;
mod renewals_many;
mod renewals_remote;
mod store_billing;
mod store_history;
mod store_universe;
mod store_webhooks;
mod tidy;
mod universe;
mod webhooks;
mod why;
mod write_behind;
