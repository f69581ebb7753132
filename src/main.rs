//! Parse, load, run, exit code.

use std::process::ExitCode;

use bellwether::cli;
use bellwether::config::Environment;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return refusal,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(cli::run(arguments, environment)),
        Err(fault) => {
            eprintln!("bellwether: no threads to run on: {fault}");
            ExitCode::FAILURE
        }
    }
}
