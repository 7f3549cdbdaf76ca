//! The command line: one subcommand a file, each returning the exit code.

#![deny(clippy::print_stdout)]

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[macro_use]
mod out;

mod admin_client;
pub mod check;
mod configuration;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dns;
pub mod doctor;
pub mod explain;
pub mod operator;
pub mod replay;
pub mod run;
pub mod simulate;
#[cfg(feature = "demo")]
pub mod zone_server;

/// Global traffic-routing edge proxy.
#[derive(Debug, Parser)]
#[command(name = "proxima", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the edge: listeners, probes, DNS, admin.
    Run(run::Arguments),
    /// Check a configuration file: exit 0, or 1 with every problem.
    Check(check::Arguments),
    /// Say what this process would use of AWS, and whether that is enough: exit 0, or 1 with what is missing.
    Doctor(doctor::Arguments),
    /// Say what becomes of a request or of a DNS name's users, and by which rule.
    Explain(Box<explain::Arguments>),
    /// Run a journal again: tell what happened, and the first decision that comes out differently.
    Replay(replay::Arguments),
    /// Inspect and prepare the Route 53 records of the configured names.
    Dns(dns::Arguments),
    /// Rehearse faults in virtual time with a configuration, and check what must hold.
    Simulate(simulate::Arguments),
    /// Take all users off a region, at a pace, until it is undrained.
    Drain(operator::Drain),
    /// Give a region its users back.
    Undrain(operator::Undrain),
    /// Let nothing be changed in DNS.
    Freeze(operator::Freeze),
    /// End a freeze.
    Thaw(operator::Freeze),
    /// Set a safety rule aside for a while.
    Override(operator::Override),
    /// End an override.
    Clear(operator::Clear),
    /// What operators have said.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Run a local Route 53: its HTTP API, its health checks, and the zone's DNS.
    #[cfg(feature = "demo")]
    ZoneServer(zone_server::Arguments),
    /// Watch regions die and come back, on this machine, in about a minute.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// A process of the demo.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoChild(demo::ChildArguments),
}

/// Parses the arguments, installs the process-wide TLS provider, runs the subcommand.
pub fn main() -> ExitCode {
    // First of all: a second provider chosen by feature unification would make
    // rustls panic when a client is built without naming one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("proxima: a TLS provider was installed before start; this is a bug");
        return ExitCode::FAILURE;
    }
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Dns(arguments) => dns::run(arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Drain(arguments) => operator::drain(arguments),
        Command::Undrain(arguments) => operator::undrain(arguments),
        Command::Freeze(arguments) => operator::freeze("freeze", arguments),
        Command::Thaw(arguments) => operator::freeze("thaw", arguments),
        Command::Override(arguments) => operator::override_rule(arguments),
        Command::Clear(arguments) => operator::clear(arguments),
        Command::Operator(arguments) => operator::operator(arguments),
        #[cfg(feature = "demo")]
        Command::ZoneServer(arguments) => zone_server::run(arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(arguments),
        #[cfg(feature = "demo")]
        Command::DemoChild(arguments) => demo::run_child(arguments),
    }
}
