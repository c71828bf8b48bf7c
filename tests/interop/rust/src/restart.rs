//! The server stops and comes back on the same store.

use anyhow::{Result, ensure};

use crate::durable::consume;
use crate::events::{Numbered, numbered, publish_durably};
use crate::expect::{deliver, next, same, within};
use crate::server::{Server, Stop};

numbered!(Calm = "restart.calm", Abrupt = "restart.abrupt", Open = "restart.open");

/// Terminated: it ends with 0, what was acked stays acked, the rest is delivered.
pub async fn terminated(server: &mut Server) -> Result<()> {
    let code = resume_after::<Calm>(server, "calm", Stop::Terminate).await?;
    same(code, Some(0))
}

/// Killed: nothing that was acknowledged is lost, and no ack forgotten.
pub async fn killed(server: &mut Server) -> Result<()> {
    let code = resume_after::<Abrupt>(server, "abrupt", Stop::Kill).await?;
    same(code, None)
}

async fn resume_after<E: Numbered>(
    server: &mut Server,
    consumer: &str,
    how: Stop,
) -> Result<Option<i32>> {
    let client = server.connect().await?;
    publish_durably::<E>(&client, 0..6).await?;
    let mut before = client.subscribe_durable::<E>(consumer, &[], 3, 2).await?;
    same(consume(&mut before, 2).await?, vec![0, 1])?;
    before.settle().await;
    same(deliver(&mut before).await?.event.number(), 2)?;
    publish_durably::<E>(&client, [6]).await?;
    drop(client);
    let code = server.stop(how).await?;
    while let Some(message) = within(before.next()).await? {
        message?; // 3 and 4 were on their way
    }
    server.resume().await?;

    let client = server.connect().await?;
    publish_durably::<E>(&client, [7]).await?;
    let mut after = client.subscribe_durable::<E>(consumer, &[], 10, 2).await?;
    let mut got = Vec::new();
    for _ in 2..=7 {
        let message = deliver(&mut after).await?;
        let (number, attempt) = (message.event.number(), message.attempt);
        ensure!(number != 2 || attempt == 2, "2 was delivered before: attempt {attempt}");
        ensure!(number != 7 || attempt == 1, "7 was not: attempt {attempt}");
        got.push(number);
        message.ack().await?;
    }
    got.sort_unstable();
    same(got, (2..=7).collect())?;

    // A consumer that was never there starts at the oldest.
    let newcomer = format!("{consumer}-newcomer");
    let mut all = client.subscribe_durable::<E>(&newcomer, &[], 20, 30).await?;
    same(consume(&mut all, 8).await?, (0..8).collect())?;
    Ok(code)
}

/// Open streams end when the server stops, and a client that comes back goes on.
pub async fn live_streams_end(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut live = client.subscribe::<Open>(&[]).await?;
    client.publish(&Open::new(1)).await?;
    same(next(&mut live).await?.number(), 1)?;
    server.stop(Stop::Terminate).await?;
    ensure!(next(&mut live).await.is_err(), "a message from a stopped server");
    ensure!(client.publish(&Open::new(2)).await.is_err(), "published to a stopped server");
    server.resume().await?;
    // The same client: tonic connects anew with the next call.
    let mut live = client.subscribe::<Open>(&[]).await?;
    client.publish(&Open::new(3)).await?;
    same(next(&mut live).await?.number(), 3)
}
