//! Fire-and-forget: typed events, groups, wildcards, batches.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::StreamExt;
use hermes_core::{Event, Subject, event_group};

use crate::client::envelope;
use crate::events::{Invoice, Numbered, Parcel, numbered};
use crate::expect::{QUIET_FOR, next, same, take};
use crate::server::Server;

numbered!(
    Tick = "live.tick",
    Shared = "live.shared",
    Turn = "live.turn",
    Left = "live.left",
    Bulk = "live.bulk",
    Step = "live.7.step",
    Created = "group.created",
    Shipped = "group.42.shipped",
    Line = "live.line",
);

const MESSAGES: u32 = 30;

event_group!(Orders = [Created, Shipped]);

/// A subscriber sees what is published right after its call returned: no pause needed.
pub async fn typed_event(server: &mut Server) -> Result<()> {
    let (publisher, subscriber) = (server.connect().await?, server.connect().await?);
    let mut invoices = subscriber.subscribe::<Invoice>(&[]).await?;
    let invoice = Invoice {
        id: "инв-1".into(),
        cents: u64::MAX,
        rate: 0.19,
        note: None,
        lines: vec![("a".into(), -1), (String::new(), 70_000)],
    };
    publisher.publish(&invoice).await?;
    same(next(&mut invoices).await?, invoice)
}

pub async fn enum_event(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut parcels = client.subscribe::<Parcel>(&[]).await?;
    for parcel in [Parcel::Sent { id: 1 }, Parcel::Lost(2, "sea".into()), Parcel::Found] {
        client.publish(&parcel).await?;
        same(next(&mut parcels).await?, parcel)?;
    }
    Ok(())
}

pub async fn integer_in_subject(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut steps = client.subscribe::<Step>(&[]).await?;
    client.publish(&Step::new(1)).await?;
    same(next(&mut steps).await?, Step::new(1))
}

pub async fn fan_out(server: &mut Server) -> Result<()> {
    let publisher = server.connect().await?;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        subscribers.push(server.connect().await?.subscribe::<Tick>(&[]).await?);
    }
    for number in 0..20 {
        publisher.publish(&Tick::new(number)).await?;
    }
    for ticks in &mut subscribers {
        let numbers: Vec<u32> = take(ticks, 20).await?.iter().map(Numbered::number).collect();
        same(numbers, (0..20).collect())?;
    }
    Ok(())
}

/// Each message to one member of each group, and to everyone without a group.
pub async fn queue_groups(server: &mut Server) -> Result<()> {
    let seen = share::<Shared>(server, &["a", "a", "a", "b", "b", ""]).await?;
    for groups in [&seen[..3], &seen[3..5], &seen[5..]] {
        let mut numbers = groups.concat();
        numbers.sort_unstable();
        same(numbers, (0..MESSAGES).collect())?;
    }
    Ok(())
}

/// The members of a group take turns: none of them idles while all keep up.
pub async fn members_take_turns(server: &mut Server) -> Result<()> {
    let seen = share::<Turn>(server, &["turns", "turns", "turns"]).await?;
    same(seen.iter().map(Vec::len).collect(), vec![MESSAGES as usize / 3; 3])
}

/// Publishes `MESSAGES` to subscribers in these groups ("": none); what each got.
async fn share<E: Numbered>(server: &Server, groups: &[&str]) -> Result<Vec<Vec<u32>>> {
    let publisher = server.connect().await?;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut readers = tokio::task::JoinSet::new();
    for (member, group) in groups.iter().enumerate() {
        let group: &[&str] = if group.is_empty() { &[] } else { &[group] };
        let mut events = server.connect().await?.subscribe::<E>(group).await?;
        let tell = tell.clone();
        readers.spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                let _ = tell.send((member, event.number()));
            }
        });
    }
    for number in 0..MESSAGES {
        publisher.publish(&E::new(number)).await?;
    }
    let mut seen = vec![Vec::new(); groups.len()];
    // As long as something comes: too many must show as well as too few.
    while let Ok(Some((member, number))) = tokio::time::timeout(QUIET_FOR, told.recv()).await {
        seen[member].push(number);
    }
    Ok(seen)
}

/// A subscriber that is gone takes nothing from its group for long.
pub async fn unsubscribe_by_dropping(server: &mut Server) -> Result<()> {
    const IN_A_ROW: u32 = 20;
    let (publisher, stays) = (server.connect().await?, server.connect().await?);
    let goes = server.connect().await?.subscribe::<Left>(&["left"]).await?;
    let mut stays = stays.subscribe::<Left>(&["left"]).await?;
    drop(goes);
    let (mut in_a_row, mut number) = (0, 0);
    while in_a_row < IN_A_ROW {
        publisher.publish(&Left::new(number)).await?;
        match tokio::time::timeout(Duration::from_millis(100), stays.next()).await {
            Ok(Some(event)) => {
                same(event?.number(), number)?;
                in_a_row += 1;
            }
            Ok(None) => bail!("the subscription that stays ended"),
            Err(_) => in_a_row = 0,
        }
        number += 1;
        ensure!(number < 100, "messages still go to the one that left");
    }
    Ok(())
}

pub async fn batch_publisher(server: &mut Server) -> Result<()> {
    const MESSAGES: u32 = 2_000;
    let client = server.connect().await?;
    let mut bulk = client.subscribe::<Bulk>(&[]).await?;
    let batch = client.batch_publisher();
    for number in 0..MESSAGES {
        batch.send(&Bulk::new(number)).await?;
    }
    batch.send_raw(&Subject::from("live.bulk"), hermes_core::encode(&Bulk::new(MESSAGES))?).await?;
    same(batch.flush().await?.accepted, u64::from(MESSAGES) + 1)?;
    let got = take(&mut bulk, MESSAGES as usize + 1).await?;
    ensure!(got.iter().map(Numbered::number).eq(0..=MESSAGES), "not in the order of publishing");
    same(client.batch_publisher().flush().await?.accepted, 0)
}

pub async fn wildcards(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let job = || Subject::new().str("job");
    let one = job().any().str("logs");
    let rest = job().rest();
    let build = job().str("build").rest();
    let exact = job().int(7).str("logs");
    let mut one = client.subscribe_on::<Line>(&one, &[]).await?;
    let mut rest = client.subscribe_on::<Line>(&rest, &[]).await?;
    let mut build = client.subscribe_on::<Line>(&build, &[]).await?;
    let mut exact = client.subscribe_on::<Line>(&exact, &[]).await?;
    let published = [
        job(),                                         // 0: rest only
        job().int(7).str("logs"),                      // 1: one, rest, exact
        job().str("build").str("logs"),                // 2: one, rest, build
        job().str("build"),                            // 3: rest, build
        job().int(7).str("logs").str("more"),          // 4: rest
        Subject::new().str("jobs").int(7).str("logs"), // 5: none
        job().int(-7).str("logs"),                     // 6: one, rest
        job().str("build").int(1).int(2).str("logs"),  // 7: rest, build
    ];
    for (number, subject) in (0..).zip(&published) {
        client.publish_on(&Line::new(number), subject).await?;
    }
    for (events, expected) in [
        (&mut one, vec![1, 2, 6]),
        (&mut rest, vec![0, 1, 2, 3, 4, 6, 7]),
        (&mut build, vec![2, 3, 7]),
        (&mut exact, vec![1]),
    ] {
        let got = take(events, expected.len()).await?;
        same(got.iter().map(Numbered::number).collect(), expected)?;
    }
    // Nothing more came to any: the next each sees is this one.
    client.publish_on(&Line::new(99), &job().int(7).str("logs")).await?;
    for events in [&mut one, &mut rest, &mut exact] {
        same(next(events).await?.number(), 99)?;
    }
    Ok(())
}

/// A group decodes by the subject that comes back, integers included.
pub async fn event_groups(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut orders = client.subscribe_group::<Orders>(&[]).await?;
    client.publish(&Created::new(1)).await?;
    match next(&mut orders).await? {
        Orders::Created(event) => same(event.number(), 1)?,
        other => bail!("{other:?}"),
    }
    client.publish(&Shipped::new(2)).await?;
    match next(&mut orders).await? {
        Orders::Shipped(event) => same(event.number(), 2),
        other => bail!("{other:?}"),
    }
}

/// What was published is what arrives: id, subject bytes, payload, headers, time.
pub async fn envelope_unchanged(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let subjects = [
        Subject::from("raw.plain"),
        Subject::from("raw.42.-1.0.250.251.70000.5000000000"),
        Subject::new().str("raw").int(i64::MAX).int(i64::MIN),
        Subject::new().str("raw").str("9223372036854775808"),
        Subject::new().str("raw").str("été").str("日本").str("007").str("+5").str("-0"),
        Subject::new().str("raw").str("a".repeat(300)),
    ];
    let mut raw = client.subscribe_raw(&Subject::from("raw.>"), &[]).await?;
    for subject in subjects {
        let mut sent = envelope(&subject, (0..=255).collect());
        sent.headers = HashMap::from([
            ("content-type".into(), "application/octet-stream".into()),
            ("ключ".into(), String::new()),
        ]);
        sent.timestamp_nanos = 1_234_567_890_123_456_789;
        client.rpc().publish(tokio_stream::once(sent.clone())).await?;
        same(next(&mut raw).await?, sent)?;
    }
    Ok(())
}

pub async fn payload_sizes(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let subject = Subject::from("sizes.any");
    let mut raw = client.subscribe_raw(&subject, &[]).await?;
    for size in [0, 1, 65_536, 900_000] {
        client.publish_raw(&subject, vec![7; size]).await?;
        same(next(&mut raw).await?.payload.len(), size)?;
    }
    Ok(())
}

/// Digits given as a string and an integer are one token.
pub async fn digits_are_one_token(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut lines = client.subscribe_on::<Line>(&Subject::from("digits.42"), &[]).await?;
    client.publish_on(&Line::new(1), &Subject::new().str("digits").str("42")).await?;
    same(next(&mut lines).await?.number(), 1)?;
    ensure!(Step::subjects()[0] == Subject::new().str("live").int(7).str("step"));
    Ok(())
}

/// A string segment with dots is several tokens.
pub async fn dots_split(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut lines = client.subscribe_on::<Line>(&Subject::from("dots.*.c"), &[]).await?;
    let dotted = Subject::new().str("dots").segment(hermes_core::Segment::s("b.c"));
    client.publish_on(&Line::new(1), &dotted).await?;
    same(next(&mut lines).await?.number(), 1)
}
