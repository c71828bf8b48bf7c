//! Durable delivery while the server runs: catching up, ack, nack, timeout, reconnecting.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use hermes_core::{Event, Subject};
use hermes_proto::durable_client_message::Msg as ToServer;
use hermes_proto::{Ack, DurableSubscribeRequest};
use tokio_stream::wrappers::ReceiverStream;

use crate::client::{DurableSubscriber, delivery, envelope, to_server};
use crate::events::{Numbered, numbered, publish_durably};
use crate::expect::{deliver, next, quiet, same, within};
use crate::server::{MAX_ATTEMPTS, Server};

numbered!(
    Early = "durable.early",
    Both = "durable.both",
    Acked = "durable.acked",
    Exited = "durable.exited",
    Dropped = "durable.dropped",
    Requeued = "durable.requeued",
    Rejected = "durable.5.rejected",
    Slow = "durable.slow",
    Late = "durable.late",
    Pair = "pair.*.id",
    Garbled = "durable.garbled",
    Window = "durable.window",
    Entry = "ledger.*.posted",
    Task = "durable.task",
    Twin = "durable.twin",
    Twice = "durable.twice",
    Closing = "durable.closing",
    Flood = "durable.flood",
);

/// Long enough never to expire within a scenario.
const LONG_SECS: u32 = 60;
/// An ack timeout of one second and the redelivery interval are over.
const EXPIRED: Duration = Duration::from_millis(2_500);

/// Takes `count` messages, acks them, and returns their numbers.
pub async fn consume<E: Numbered>(
    subscriber: &mut DurableSubscriber<E>,
    count: usize,
) -> Result<Vec<u32>> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let message = deliver(subscriber).await?;
        numbers.push(message.event.number());
        message.ack().await?;
    }
    Ok(numbers)
}

pub async fn publish_then_catch_up(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    publish_durably::<Early>(&client, 0..10).await?;
    let mut early = client.subscribe_durable::<Early>("early", &[], 20, LONG_SECS).await?;
    for number in 0..10 {
        let message = deliver(&mut early).await?;
        same((message.event.number(), message.attempt), (number, 1))?;
        ensure!(uuid::Uuid::parse_str(&message.message_id).is_ok(), "{}", message.message_id);
        message.ack().await?;
    }
    publish_durably::<Early>(&client, [10]).await?;
    same(consume(&mut early, 1).await?, vec![10])
}

/// What is published durably reaches live subscribers and every consumer.
pub async fn live_and_durable(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut live = client.subscribe::<Both>(&[]).await?;
    let mut first = client.subscribe_durable::<Both>("both-1", &[], 5, LONG_SECS).await?;
    let mut second = client.subscribe_durable::<Both>("both-2", &[], 5, LONG_SECS).await?;
    publish_durably::<Both>(&client, [1]).await?;
    same(next(&mut live).await?.number(), 1)?;
    same(consume(&mut first, 1).await?, vec![1])?;
    same(consume(&mut second, 1).await?, vec![1])
}

pub async fn nothing_after_ack(server: &mut Server) -> Result<()> {
    let publisher = server.connect().await?;
    publish_durably::<Acked>(&publisher, 0..5).await?;
    let client = server.connect().await?;
    let mut acked = client.subscribe_durable::<Acked>("acked", &[], 10, 1).await?;
    same(consume(&mut acked, 5).await?, vec![0, 1, 2, 3, 4])?;
    acked.settle().await;
    client.vanish();
    tokio::time::sleep(EXPIRED).await;
    let client = server.connect().await?;
    let mut acked = client.subscribe_durable::<Acked>("acked", &[], 10, 1).await?;
    publish_durably::<Acked>(&publisher, [5]).await?;
    same(consume(&mut acked, 1).await?, vec![5])
}

/// The process ends with messages in hand; its successor, under the same name, gets them
/// at once, and what was published meanwhile.
pub async fn reconnect_after_exit(server: &mut Server) -> Result<()> {
    let publisher = server.connect().await?;
    publish_durably::<Exited>(&publisher, 0..4).await?;
    let client = server.connect().await?;
    let mut exited = client.subscribe_durable::<Exited>("exited", &[], 10, LONG_SECS).await?;
    same(consume(&mut exited, 2).await?, vec![0, 1])?;
    for number in [2, 3] {
        same(deliver(&mut exited).await?.event.number(), number)?;
    }
    exited.settle().await;
    drop(exited); // it would keep the request half open, which no process does after its end
    client.vanish();
    publish_durably::<Exited>(&publisher, [4]).await?;
    let client = server.connect().await?;
    let mut exited = client.subscribe_durable::<Exited>("exited", &[], 10, LONG_SECS).await?;
    let mut got = Vec::new();
    for _ in 0..3 {
        let message = deliver(&mut exited).await?;
        let number = message.event.number();
        // 4 may have been on its way to the one that is gone.
        ensure!(number == 4 || message.attempt == 2, "{number}: attempt {}", message.attempt);
        got.push(number);
        message.ack().await?;
    }
    got.sort_unstable();
    same(got, vec![2, 3, 4])
}

/// Within one process: the subscriber is dropped, but the client keeps its stream until
/// one more message came. Nothing is lost by that, and nothing is sent for ever to it.
pub async fn reconnect_after_drop(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut before = client.subscribe_durable::<Dropped>("dropped", &[], 10, LONG_SECS).await?;
    publish_durably::<Dropped>(&client, [0]).await?;
    same(consume(&mut before, 1).await?, vec![0])?;
    drop(before);
    let mut after = client.subscribe_durable::<Dropped>("dropped", &[], 10, LONG_SECS).await?;
    publish_durably::<Dropped>(&client, 1..=6).await?;
    let mut got = consume(&mut after, 6).await?;
    got.sort_unstable();
    same(got, (1..=6).collect())
}

pub async fn nack_and_requeue(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut requeued = client.subscribe_durable::<Requeued>("requeued", &[], 10, LONG_SECS).await?;
    publish_durably::<Requeued>(&client, [1]).await?;
    let message = deliver(&mut requeued).await?;
    same((message.event.number(), message.attempt), (1, 1))?;
    let id = message.message_id.clone();
    message.nack(true).await?;
    let message = deliver(&mut requeued).await?;
    same((message.event.number(), message.attempt), (1, 2))?;
    same(&message.message_id, &id)?;
    message.ack().await?;
    publish_durably::<Requeued>(&client, [2]).await?;
    same(consume(&mut requeued, 1).await?, vec![2])
}

pub async fn nack_without_requeue(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let dead_subject = Subject::new().str("_dead_letter").rest();
    let mut dead = client.subscribe_raw(&dead_subject, &[]).await?;
    let mut rejected = client.subscribe_durable::<Rejected>("rejected", &[], 10, LONG_SECS).await?;
    publish_durably::<Rejected>(&client, [1]).await?;
    deliver(&mut rejected).await?.nack(false).await?;
    let letter = next(&mut dead).await?;
    same(
        Subject::from_bytes(&letter.subject)?.to_string(),
        format!("_dead_letter.{}", Rejected::subjects()[0]),
    )?;
    same(hermes_core::decode::<Rejected>(&letter.payload)?.number(), 1)?;
    publish_durably::<Rejected>(&client, [2]).await?;
    same(consume(&mut rejected, 1).await?, vec![2])?;
    quiet(&mut rejected).await
}

/// An unanswered message comes again, counted, until it is a dead letter.
pub async fn timeout_to_dead_letter(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let dead_subject = Subject::new().str("_dead_letter").rest();
    let mut dead = client.subscribe_raw(&dead_subject, &[]).await?;
    let mut slow = client.subscribe_durable::<Slow>("slow", &[], 10, 1).await?;
    publish_durably::<Slow>(&client, [1]).await?;
    for attempt in 1..=MAX_ATTEMPTS {
        let message = deliver(&mut slow).await?;
        same((message.event.number(), message.attempt), (1, attempt))?;
    }
    let letter = next(&mut dead).await?;
    same(Subject::from_bytes(&letter.subject)?.to_string(), "_dead_letter.durable.slow".into())?;
    publish_durably::<Slow>(&client, [2]).await?;
    same(consume(&mut slow, 1).await?, vec![2])
}

/// An ack counts even when it comes after its time, while the next attempt is out.
pub async fn late_ack(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut late = client.subscribe_durable::<Late>("late", &[], 10, 1).await?;
    publish_durably::<Late>(&client, [1]).await?;
    let first = deliver(&mut late).await?;
    let again = deliver(&mut late).await?;
    same((&again.message_id, again.attempt), (&first.message_id, 2))?;
    first.ack().await?;
    late.settle().await;
    tokio::time::sleep(EXPIRED).await;
    publish_durably::<Late>(&client, [2]).await?;
    same(consume(&mut late, 1).await?, vec![2])
}

/// Ids are unique per subject only: an ack settles one message, two acks both.
pub async fn one_id_on_two_subjects(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut pair = client.subscribe_durable::<Pair>("pair", &[], 10, 1).await?;
    let mut sent = envelope(&Subject::from("pair.1.id"), hermes_core::encode(&Pair::new(1))?);
    client.rpc().publish_durable(tokio_stream::once(sent.clone())).await?;
    sent.subject = Subject::from("pair.2.id").to_bytes();
    sent.payload = hermes_core::encode(&Pair::new(2))?;
    client.rpc().publish_durable(tokio_stream::once(sent)).await?;
    let (first, second) = (deliver(&mut pair).await?, deliver(&mut pair).await?);
    same((first.event.number(), second.event.number()), (1, 2))?;
    first.ack().await?;
    second.ack().await?;
    pair.settle().await;
    tokio::time::sleep(EXPIRED).await;
    quiet(&mut pair).await
}

/// A message that its reader cannot decode has no id for the client to answer with. It is
/// the only one that comes again.
pub async fn undecodable(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut garbled = client.subscribe_durable::<Garbled>("garbled", &[], 10, 1).await?;
    let bad = envelope(&Garbled::subjects()[0], vec![0xff; 3]);
    client.rpc().publish_durable(tokio_stream::once(bad)).await?;
    publish_durably::<Garbled>(&client, [1]).await?;
    ensure!(deliver(&mut garbled).await.is_err(), "decoded");
    same(consume(&mut garbled, 1).await?, vec![1])?;
    ensure!(deliver(&mut garbled).await.is_err(), "decoded");
    publish_durably::<Garbled>(&client, [2]).await?;
    same(consume(&mut garbled, 1).await?, vec![2])
}

pub async fn in_flight_limit(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    publish_durably::<Window>(&client, 0..8).await?;
    let mut window = client.subscribe_durable::<Window>("window", &[], 3, LONG_SECS).await?;
    let mut held = Vec::new();
    for number in 0..3 {
        let message = deliver(&mut window).await?;
        same(message.event.number(), number)?;
        held.push(message);
    }
    quiet(&mut window).await?;
    held.remove(1).ack().await?;
    let message = deliver(&mut window).await?;
    same(message.event.number(), 3)?;
    held.push(message);
    quiet(&mut window).await?;
    for message in held {
        message.ack().await?;
    }
    same(consume(&mut window, 4).await?, vec![4, 5, 6, 7])
}

/// The subject of a durable event may be a pattern; messages come under their own.
pub async fn wildcard_consumer(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let publish = async |number: u32, account: i64| -> Result<()> {
        let subject = Subject::new().str("ledger").int(account).str("posted");
        let entry = envelope(&subject, hermes_core::encode(&Entry::new(number))?);
        let ack = client.rpc().publish_durable(tokio_stream::once(entry)).await?.into_inner();
        same((ack.accepted, ack.persisted), (1, 1))
    };
    publish(1, 10).await?;
    publish(2, 11).await?;
    let mut ledger = client.subscribe_durable::<Entry>("ledger", &[], 10, LONG_SECS).await?;
    same(consume(&mut ledger, 2).await?, vec![1, 2])?;
    publish(3, 12).await?;
    same(consume(&mut ledger, 1).await?, vec![3])
}

/// Consumers of one queue group share its messages, also those published before.
pub async fn durable_queue_group(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    publish_durably::<Task>(&client, 0..4).await?;
    let mut first = client.subscribe_durable::<Task>("w-1", &["workers"], 2, LONG_SECS).await?;
    let mut second = client.subscribe_durable::<Task>("w-2", &["workers"], 2, LONG_SECS).await?;
    publish_durably::<Task>(&client, 4..12).await?;
    shared_exactly_once(&mut first, &mut second, 12).await
}

/// Two streams under one name share the work.
pub async fn one_name_twice(server: &mut Server) -> Result<()> {
    let (one, two) = (server.connect().await?, server.connect().await?);
    let mut first = one.subscribe_durable::<Twin>("twin", &[], 2, LONG_SECS).await?;
    let mut second = two.subscribe_durable::<Twin>("twin", &[], 2, LONG_SECS).await?;
    publish_durably::<Twin>(&one, 0..12).await?;
    shared_exactly_once(&mut first, &mut second, 12).await
}

async fn shared_exactly_once<E: Numbered>(
    first: &mut DurableSubscriber<E>,
    second: &mut DurableSubscriber<E>,
    count: u32,
) -> Result<()> {
    let (mut numbers, mut by_first, mut by_second) = (HashSet::new(), 0, 0);
    for _ in 0..count {
        let message = tokio::select! {
            message = deliver(first) => { by_first += 1; message? }
            message = deliver(second) => { by_second += 1; message? }
        };
        same(message.attempt, 1)?;
        ensure!(numbers.insert(message.event.number()), "{} twice", message.event.number());
        message.ack().await?;
    }
    ensure!(by_first > 0 && by_second > 0, "not shared: {by_first} and {by_second}");
    quiet(first).await?;
    quiet(second).await
}

/// A publish sent again under its id is one message.
pub async fn same_id_twice(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut twice = client.subscribe_durable::<Twice>("twice", &[], 10, LONG_SECS).await?;
    let sent = envelope(&Twice::subjects()[0], hermes_core::encode(&Twice::new(1))?);
    for _ in 0..2 {
        let ack = client.rpc().publish_durable(tokio_stream::once(sent.clone())).await?;
        same(ack.into_inner().accepted, 1)?;
    }
    same(consume(&mut twice, 1).await?, vec![1])?;
    publish_durably::<Twice>(&client, [2]).await?;
    same(consume(&mut twice, 1).await?, vec![2])
}

/// The client closes its side: its last acks count, and the stream ends without error.
pub async fn half_close(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    publish_durably::<Closing>(&client, [1, 2]).await?;
    let subscribe = || DurableSubscribeRequest {
        subject: Closing::subjects()[0].to_bytes(),
        consumer_name: "closing".into(),
        ..Default::default() // 0: the server's defaults
    };
    let (requests, outgoing) = tokio::sync::mpsc::channel(8);
    requests.send(to_server(ToServer::Subscribe(subscribe()))).await?;
    let mut rpc = client.rpc();
    let answer = within(rpc.subscribe_durable(ReceiverStream::new(outgoing))).await??;
    let mut frames = answer.into_inner();
    for _ in 0..2 {
        let frame = within(frames.message()).await??;
        let (envelope, _) = frame.and_then(delivery).expect("a message");
        let ack = Ack { message_id: envelope.id };
        requests.send(to_server(ToServer::Ack(ack))).await?;
    }
    drop(requests);
    ensure!(within(frames.message()).await??.is_none(), "a message after the end");
    let mut closing = client.subscribe_durable::<Closing>("closing", &[], 5, LONG_SECS).await?;
    publish_durably::<Closing>(&client, [3]).await?;
    same(consume(&mut closing, 1).await?, vec![3])
}

/// Many publishers at once; every message comes once, to each of two consumers.
pub async fn many_publishers(server: &mut Server) -> Result<()> {
    const PUBLISHERS: u32 = 10;
    const EACH: u32 = 20;
    let client = server.connect().await?;
    let mut first = client.subscribe_durable::<Flood>("flood-1", &[], 300, LONG_SECS).await?;
    let mut second = client.subscribe_durable::<Flood>("flood-2", &[], 300, LONG_SECS).await?;
    let publishers =
        (0..PUBLISHERS).map(|publisher| {
            let client = client.clone();
            async move {
                publish_durably::<Flood>(&client, publisher * EACH..(publisher + 1) * EACH).await
            }
        });
    futures::future::try_join_all(publishers).await?;
    for consumer in [&mut first, &mut second] {
        let mut numbers = consume(consumer, (PUBLISHERS * EACH) as usize).await?;
        for publisher in 0..PUBLISHERS {
            let own: Vec<u32> =
                numbers.iter().copied().filter(|number| number / EACH == publisher).collect();
            ensure!(own.is_sorted(), "publisher {publisher} out of order: {own:?}");
        }
        numbers.sort_unstable();
        same(numbers, (0..PUBLISHERS * EACH).collect())?;
    }
    Ok(())
}
