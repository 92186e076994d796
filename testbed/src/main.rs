//! The test bed on the command line.

mod bench;
mod demo;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use clientgrant_testbed::{Process, RunDir, Tools, image};

#[derive(Parser)]
#[command(about = "Builds and runs the real servers that tests, demo and benchmark need")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build every server that is missing; nothing is built twice.
    Tools,
    /// Walk through the story on real servers, checking every step of it.
    Demo {
        /// The operator's program.
        #[arg(long)]
        operator: PathBuf,
        /// Exit after the story instead of staying up.
        #[arg(long, env = "ONCE", value_parser = clap::builder::FalseyValueParser::new())]
        once: bool,
    },
    /// Measure latencies, memory and size, and print them.
    Bench {
        /// The operator's program; a release build.
        #[arg(long)]
        operator: PathBuf,
        /// What to measure, again for more; by default everything that concerns this operator alone.
        #[arg(long, value_enum, default_values = ["latency", "scale", "hot"])]
        part: Vec<bench::Part>,
    },
    /// Build a static program and write it as an OCI image layout; no container engine is needed.
    Image {
        /// The folder of the layout. An archive, the unpacked root, the digest and the list of parts lie beside it.
        #[arg(long, default_value = "target/image")]
        to: PathBuf,
        /// Also run it in an empty root, as the user that it is made for.
        #[arg(long)]
        check: bool,
    },
    /// Start a process that sleeps, print its id and wait: for the test that kills this one.
    #[command(hide = true)]
    Hold,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Verb::Tools => tools(),
        Verb::Demo { operator, once } => {
            Tools::ensure()?;
            tokio::runtime::Runtime::new().context("cannot start the runtime")?.block_on(demo::run(operator, once))
        }
        Verb::Bench { operator, part } => {
            Tools::ensure()?;
            tokio::runtime::Runtime::new().context("cannot start the runtime")?.block_on(bench::run(&operator, &part))
        }
        Verb::Image { to, check } => {
            let paths = image::Paths::of(&to);
            image::build(&paths)?;
            if check { image::check(&paths) } else { Ok(()) }
        }
        Verb::Hold => hold(),
    }
}

fn tools() -> Result<()> {
    let tools = Tools::ensure()?;
    for path in tools.paths() {
        println!("{}", path.display());
    }
    Ok(())
}

/// Starts an etcd and waits to be killed.
fn hold() -> Result<()> {
    let tools = Tools::find()?;
    let dir = RunDir::new("hold")?;
    let mut command = std::process::Command::new(&tools.etcd);
    let client = format!("http://127.0.0.1:{}", clientgrant_testbed::free_port()?);
    let peer = format!("http://127.0.0.1:{}", clientgrant_testbed::free_port()?);
    command.arg("--data-dir").arg(dir.data("etcd")?).args([
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]);
    let process = Process::spawn(&dir, "etcd", command)?;
    println!("{} {}", process.id(), dir.path().display());
    std::io::stdout().flush().context("cannot print")?;
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}
