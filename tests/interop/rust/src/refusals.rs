//! What is refused, with which code, and what is left of a stream that breaks off.

use anyhow::{Result, ensure};
use hermes_core::{Segment, Subject};
use hermes_proto::durable_client_message::Msg as ToServer;
use hermes_proto::{
    Ack, DurableClientMessage, DurableSubscribeRequest, EventEnvelope, SubscribeRequest,
};
use tonic::{Code, Status};

use crate::client::{HermesClient, envelope, to_server};
use crate::events::{Numbered, numbered};
use crate::expect::{next, refused, same};
use crate::server::Server;

numbered!(Partial = "refused.partial");

fn plain() -> EventEnvelope {
    envelope(&Subject::from("refused.plain"), vec![])
}

fn on(subject: Vec<u8>) -> EventEnvelope {
    EventEnvelope { subject, ..plain() }
}

/// Both kinds of publish refuse it.
async fn publish_refused(client: &HermesClient, bad: EventEnvelope) -> Result<()> {
    let code = Code::InvalidArgument;
    refused(client.rpc().publish(tokio_stream::once(bad.clone())).await, code)?;
    refused(client.rpc().publish_durable(tokio_stream::once(bad)).await, code)
}

async fn subscribe(client: &HermesClient, subject: Vec<u8>) -> Result<(), Status> {
    let request = SubscribeRequest { subject, queue_groups: vec![] };
    let mut frames = client.rpc().subscribe(request).await?.into_inner();
    frames.message().await.map(|_| ())
}

/// Opens a durable stream with these messages; the error it ends with.
async fn open(client: &HermesClient, messages: Vec<DurableClientMessage>) -> Result<(), Status> {
    let requests = tokio_stream::iter(messages);
    let mut frames = client.rpc().subscribe_durable(requests).await?.into_inner();
    while frames.message().await?.is_some() {}
    Ok(())
}

fn consumer(name: &str, subject: Vec<u8>) -> DurableSubscribeRequest {
    DurableSubscribeRequest { subject, consumer_name: name.into(), ..Default::default() }
}

pub async fn empty_fields(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    publish_refused(&client, on(vec![])).await?;
    publish_refused(&client, EventEnvelope { id: String::new(), ..plain() }).await?;
    refused(subscribe(&client, vec![]).await, Code::InvalidArgument)
}

pub async fn durable_opening(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let subject = Subject::from("refused.plain").to_bytes();
    let ack = to_server(ToServer::Ack(Ack { message_id: "x".into() }));
    let nameless = to_server(ToServer::Subscribe(consumer("", subject)));
    let everything = to_server(ToServer::Subscribe(consumer("refused", vec![])));
    let empty = DurableClientMessage { msg: None };
    for messages in [vec![], vec![ack], vec![empty], vec![nameless], vec![everything]] {
        refused(open(&client, messages).await, Code::InvalidArgument)?;
    }
    Ok(())
}

/// Bytes that are no subject in any encoding.
pub async fn malformed_subjects(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    for bytes in [vec![2, 0, 1], vec![1, 4], vec![1, 1, 0xff], vec![1, 0, 2, 0xc3, 0x28]] {
        refused(subscribe(&client, bytes.clone()).await, Code::InvalidArgument)?;
        let bad = to_server(ToServer::Subscribe(consumer("refused", bytes)));
        refused(open(&client, vec![bad]).await, Code::InvalidArgument)?;
    }
    Ok(())
}

/// What the original lets pass: malformed subjects of a publish vanish there.
pub async fn malformed_publishes(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let odd = |segment: Segment| Subject::new().str("refused").segment(segment).to_bytes();
    for subject in [
        vec![2, 0, 1],                      // truncated
        vec![0],                            // no token
        vec![1, 0, 0],                      // an empty token
        odd(Segment::Any),                  // a pattern
        odd(Segment::Rest),                 // a pattern
        odd(Segment::s("a b")),             // whitespace
        odd(Segment::s("*")),               // a wildcard as a string
        Subject::from("_sys.x").to_bytes(), // reserved
    ] {
        publish_refused(&client, on(subject)).await?;
    }
    Ok(())
}

pub async fn several_durable_groups(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut request = consumer("refused", Subject::from("refused.plain").to_bytes());
    request.queue_groups = vec!["a".into(), "b".into()];
    let bad = to_server(ToServer::Subscribe(request));
    refused(open(&client, vec![bad]).await, Code::InvalidArgument)
}

/// What came before the envelope that breaks a stream stays.
pub async fn broken_stream(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let subject = Subject::from("refused.partial");
    let good = |number| -> Result<EventEnvelope> {
        Ok(envelope(&subject, hermes_core::encode(&Partial::new(number))?))
    };
    let mut live = client.subscribe::<Partial>(&[]).await?;
    let mut durable = client.subscribe_durable::<Partial>("partial", &[], 5, 30).await?;
    let broken = EventEnvelope { id: String::new(), ..good(2)? };
    let envelopes = vec![good(0)?, good(1)?, broken, good(3)?];
    let answer = client.rpc().publish_durable(tokio_stream::iter(envelopes)).await;
    refused(answer, Code::InvalidArgument)?;
    client.publish_durable(&Partial::new(4)).await?;
    for number in [0, 1, 4] {
        same(next(&mut live).await?.number(), number)?;
    }
    same(crate::durable::consume(&mut durable, 3).await?, vec![0, 1, 4])
}

/// Without a store: live works, durable says which setting is missing.
pub async fn no_store(server: &mut Server) -> Result<()> {
    let server = server.ephemeral().await?;
    let client = server.connect().await?;
    let mut live = client.subscribe::<Partial>(&[]).await?;
    client.publish(&Partial::new(1)).await?;
    same(next(&mut live).await?.number(), 1)?;
    let subscribe = consumer("none", Subject::from("refused.plain").to_bytes());
    let answers = [
        client.rpc().publish_durable(tokio_stream::once(plain())).await.map(|_| ()),
        open(&client, vec![to_server(ToServer::Subscribe(subscribe))]).await,
    ];
    for answer in answers {
        let says = answer.as_ref().err().map(|status| status.message().to_owned());
        refused(answer, Code::FailedPrecondition)?;
        ensure!(says.is_some_and(|text| text.contains("HERMES_STORE_PATH")), "names no setting");
    }
    Ok(())
}
