//! The server of the crates 0.4.1, configured by the environment as it is there.

use hermes_server::config::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let config = ServerConfig::from_env();
    let listener = tokio::net::TcpListener::bind(config.listen_addr).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    // It waits for open streams and has no grace time, so here the signal ends it.
    tokio::select! {
        ended = hermes_server::run_with_config(listener, config) => ended,
        _ = terminate.recv() => Ok(()),
    }
}
