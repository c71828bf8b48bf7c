//! Wire compatibility with the hermes-broker crates 0.4, scenario by scenario, against a
//! real server process. `hermes-interop (--hermes | --original) PATH [NAME ...]`
//!
//! With `--original` the server of the crates is put to the same test. Where it is known
//! to behave otherwise, the scenario says how; that list is the compatibility statement.

mod client;
mod durable;
mod events;
mod expect;
mod live;
mod older;
mod refusals;
mod restart;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;

use server::{Program, Server};

const SCENARIO_LIMIT: Duration = Duration::from_secs(60);

type Run = for<'a> fn(&'a mut Server) -> LocalBoxFuture<'a, Result<()>>;

struct Scenario {
    name: &'static str,
    run: Run,
    /// How the original differs; empty where it does not.
    original: &'static str,
}

macro_rules! scenarios {
    ($($module:ident::$name:ident $(: $original:literal)?),+ $(,)?) => {
        &[$(Scenario {
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |server| Box::pin($module::$name(server)),
            original: concat!($($original)?),
        }),+]
    };
}

const SCENARIOS: &[Scenario] = scenarios![
    live::typed_event,
    live::enum_event,
    live::integer_in_subject,
    live::fan_out,
    live::queue_groups,
    live::members_take_turns,
    live::unsubscribe_by_dropping,
    live::batch_publisher,
    live::wildcards,
    live::event_groups,
    live::envelope_unchanged,
    live::payload_sizes,
    live::digits_are_one_token: "the string 42 and the integer 42 are different segments",
    live::dots_split: "a string with dots is one segment",
    durable::publish_then_catch_up,
    durable::live_and_durable,
    durable::nothing_after_ack,
    durable::reconnect_after_exit: "what a lost consumer held waits for its ack timeout",
    durable::reconnect_after_drop,
    durable::nack_and_requeue: "a requeued message waits for the next reconnect, as attempt 1",
    durable::nack_without_requeue: "no dead letter is published",
    durable::timeout_to_dead_letter: "the attempt stays 2 and the message never dies",
    durable::late_ack,
    durable::one_id_on_two_subjects,
    durable::undecodable,
    durable::in_flight_limit: "what does not fit at first waits for the next reconnect",
    durable::wildcard_consumer: "a consumer with a pattern does not catch up",
    durable::durable_queue_group: "each member catches up on everything published before",
    durable::one_name_twice: "the last stream under a name replaces the others",
    durable::same_id_twice: "it is delivered twice",
    durable::half_close,
    durable::many_publishers,
    restart::terminated,
    restart::killed,
    restart::live_streams_end,
    refusals::empty_fields,
    refusals::durable_opening,
    refusals::malformed_subjects,
    refusals::malformed_publishes: "they are accepted, and reach nobody",
    refusals::several_durable_groups: "a consumer may be in several groups",
    refusals::broken_stream,
    refusals::no_store,
    older::live_across_encodings: "0.4 reads only its own encoding",
    older::durable_across_encodings: "0.4 reads only its own encoding",
    older::text_subjects: "0.4 reads only its own encoding",
];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the chosen scenarios, all by default. The number that failed.
async fn run() -> Result<usize> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: hermes-interop (--hermes | --original) PATH [NAME ...]";
    let (kind, path) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let path = std::fs::canonicalize(&path).with_context(|| path.clone())?;
    let program = match kind.as_str() {
        "--hermes" => Program::Hermes(path),
        "--original" => Program::Original(path),
        _ => bail!(usage),
    };
    let wanted: Vec<String> = arguments.collect();
    let chosen = |scenario: &&Scenario| {
        wanted.is_empty() || wanted.iter().any(|part| scenario.name.contains(part.as_str()))
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    if chosen.is_empty() {
        bail!("no scenario is named like {wanted:?}");
    }
    let mut failed = 0;
    let mut server = Server::start(&program, true).await?;
    for scenario in &chosen {
        if !passes(scenario, &program, &mut server).await {
            failed += 1;
            // It may be down, or hold what the scenario left behind.
            server = Server::start(&program, true).await?;
        }
    }
    println!("{} of {} as expected", chosen.len() - failed, chosen.len());
    Ok(failed)
}

/// Runs one scenario and prints its line.
async fn passes(scenario: &Scenario, program: &Program, server: &mut Server) -> bool {
    let began = Instant::now();
    let outcome = tokio::time::timeout(SCENARIO_LIMIT, (scenario.run)(server)).await;
    let outcome =
        outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("not done in {SCENARIO_LIMIT:?}")));
    let known = match program {
        Program::Original(_) => scenario.original,
        Program::Hermes(_) => "",
    };
    let (name, seconds) = (scenario.name, began.elapsed().as_secs_f32());
    let (passed, line) = match (outcome, known) {
        (Ok(()), "") => (true, format!("PASS     {name} ({seconds:.1} s)")),
        (Ok(()), known) => (false, format!("FAIL     {name}: differs no longer: {known}")),
        (Err(error), "") => {
            (false, format!("FAIL     {name} ({seconds:.1} s): {error:#}\n{}", server.log_tail(12)))
        }
        (Err(error), known) => (true, format!("DIFFERS  {name}: {known} ({error:#})")),
    };
    println!("{line}");
    passed
}
