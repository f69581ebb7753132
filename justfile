# `just` lists these.
default:
    @just --list --unsorted

# The daemon, on simulated prices, with its state in ./data
run *ARGUMENTS:
    cargo run --locked -- {{ ARGUMENTS }}

# Every test, on SQLite and on a throw-away PostgreSQL
test *ARGUMENTS:
    ./scripts/test {{ ARGUMENTS }}

# Formatting and lints
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings

# Formats the source
fmt:
    cargo fmt

# The deployment files: alerts, unit, containers
check-deploy:
    ./scripts/check-deploy

# Licenses, sources and known faults of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# What must pass before a change is taken
ci:
    ./.ci/run
