//! `bellwether`: a daemon that knows when the stock market is open, runs what must run then, and serves the result.
//!
//! `ARCHITECTURE.md` walks through the house; the folders are its rooms, and arrows between them run down only.

#[macro_use]
mod names;

pub mod api;
pub mod billing;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod components;
pub mod config;
pub mod console;
pub mod daemon;
pub mod ingest;
pub mod jobs;
pub mod mail;
pub mod market;
pub mod metrics;
pub mod ops;
pub mod schedule;
pub mod scheduler;
pub mod store;
pub mod webhooks;
