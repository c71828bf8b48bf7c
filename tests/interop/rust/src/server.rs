//! A server as a process of its own: on a free port, with a store in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::client::HermesClient;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// Deliveries of one message until it is a dead letter, for every server started here.
pub const MAX_ATTEMPTS: u32 = 3;

/// Which program is put to the test.
#[derive(Clone)]
pub enum Program {
    /// `hermes serve`, by the path of the `hermes` script.
    Hermes(PathBuf),
    /// The server of the crates, by the path of `original-server`.
    Original(PathBuf),
}

#[derive(Clone, Copy)]
pub enum Stop {
    Terminate,
    Kill,
}

pub struct Server {
    program: Program,
    port: u16,
    durable: bool,
    folder: TempDir,
    process: Child,
}

impl Server {
    pub async fn start(program: &Program, durable: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hermes-interop-").tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = spawn(program, port, durable, folder.path())?;
        let mut server = Self { program: program.clone(), port, durable, folder, process };
        server.wait_until_listening().await?;
        Ok(server)
    }

    /// Another server of the same program, with no store.
    pub async fn ephemeral(&self) -> Result<Self> {
        Self::start(&self.program, false).await
    }

    /// A new connection of its own.
    pub async fn connect(&self) -> Result<HermesClient> {
        HermesClient::connect(self.uri()).await.context("connecting")
    }

    pub fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the process. The exit code, or None when a signal ended it.
    pub async fn stop(&mut self, how: Stop) -> Result<Option<i32>> {
        let signal = match how {
            Stop::Terminate => libc::SIGTERM,
            Stop::Kill => libc::SIGKILL,
        };
        let id = self.process.id().context("the server is gone already")?;
        // SAFETY: the process is our own child and not reaped yet, so the id is its.
        unsafe { libc::kill(i32::try_from(id)?, signal) };
        let status = timeout(STOPS_WITHIN, self.process.wait())
            .await
            .context("the server does not stop")??;
        Ok(status.code())
    }

    /// Starts it anew on the same port and store, after `stop`.
    pub async fn resume(&mut self) -> Result<()> {
        self.process = spawn(&self.program, self.port, self.durable, self.folder.path())?;
        self.wait_until_listening().await
    }

    /// The last lines the server wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(log_path(self.folder.path())).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    async fn wait_until_listening(&mut self) -> Result<()> {
        let until = Instant::now() + STARTS_WITHIN;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended ({status}):\n{}", self.log_tail(20));
            }
            if Instant::now() > until {
                bail!("the server does not listen:\n{}", self.log_tail(20));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn spawn(program: &Program, port: u16, durable: bool, folder: &Path) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log_path(folder))?;
    let path = match program {
        Program::Hermes(path) | Program::Original(path) => path,
    };
    let mut command = Command::new(path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERMES_")) {
        command.env_remove(name);
    }
    match (program, durable) {
        (Program::Hermes(_), true) => {
            command.arg("serve").arg("--store").arg(folder.join("store"));
        }
        (Program::Hermes(_), false) => {
            command.args(["serve", "--ephemeral"]);
        }
        (Program::Original(_), true) => {
            command.env("HERMES_STORE_PATH", folder.join("store.redb"));
        }
        (Program::Original(_), false) => {}
    }
    command
        .env("HERMES_LISTEN_ADDR", format!("127.0.0.1:{port}"))
        .env("HERMES_REDELIVERY_INTERVAL", "1")
        .env("HERMES_MAX_DELIVERY_ATTEMPTS", MAX_ATTEMPTS.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", path.display()))
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("server.log")
}
