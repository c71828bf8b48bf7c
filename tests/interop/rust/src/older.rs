//! Clients of 0.2 and 0.3: the subject is a JSON array, declared as a string. They and
//! clients of 0.4 see each other's messages, each in its own encoding.

use anyhow::Result;
use hermes_core::Subject;
use hermes_core_json::Subject as JsonSubject;
use hermes_proto_json::broker_client::BrokerClient as JsonClient;
use hermes_proto_json::durable_client_message::Msg as JsonToServer;
use hermes_proto_json::durable_server_message::Msg as JsonFromServer;
use hermes_proto_json::{
    Ack, DurableClientMessage, DurableSubscribeRequest, EventEnvelope, SubscribeRequest,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::client::envelope;
use crate::expect::{next, same, within};
use crate::server::Server;

/// The same subject in both encodings, as each of the crates writes it.
const SUBJECTS: [&str; 4] =
    ["older.plain", "older.42.-1", "older.été.9223372036854775807", "older"];

fn json_envelope(subject: &str, payload: &[u8]) -> EventEnvelope {
    EventEnvelope {
        id: uuid::Uuid::now_v7().to_string(),
        subject: JsonSubject::from(subject).to_json(),
        payload: payload.to_vec(),
        ..Default::default()
    }
}

pub async fn live_across_encodings(server: &mut Server) -> Result<()> {
    let new = server.connect().await?;
    let mut old = JsonClient::connect(server.uri()).await?;
    let pattern =
        SubscribeRequest { subject: JsonSubject::from("older.>").to_json(), queue_groups: vec![] };
    let mut to_old = old.subscribe(pattern).await?.into_inner();
    let mut to_new = new.subscribe_raw(&Subject::from("older.>"), &[]).await?;
    for subject in SUBJECTS {
        let (json, bincode) = (JsonSubject::from(subject).to_json(), Subject::from(subject));
        old.publish(tokio_stream::once(json_envelope(subject, b"old"))).await?;
        new.publish_raw(&bincode, b"new".to_vec()).await?;
        for payload in [b"old", b"new"] {
            let got = within(to_old.message()).await??.expect("a message");
            same((&got.subject, got.payload.as_slice()), (&json, payload.as_slice()))?;
            let got = next(&mut to_new).await?;
            same((got.subject, got.payload.as_slice()), (bincode.to_bytes(), payload.as_slice()))?;
        }
    }
    Ok(())
}

pub async fn durable_across_encodings(server: &mut Server) -> Result<()> {
    let new = server.connect().await?;
    let mut old = JsonClient::connect(server.uri()).await?;
    let bincode = envelope(&Subject::from("elder.7.new"), b"new".to_vec());
    new.rpc().publish_durable(tokio_stream::once(bincode)).await?;
    old.publish_durable(tokio_stream::once(json_envelope("elder.7.old", b"old"))).await?;

    let to_server = |msg| DurableClientMessage { msg: Some(msg) };
    let (requests, outgoing) = tokio::sync::mpsc::channel(8);
    let open = DurableSubscribeRequest {
        subject: JsonSubject::from("elder.7.*").to_json(),
        consumer_name: "elder".into(),
        max_in_flight: 5,
        ack_timeout_seconds: 30,
        ..Default::default()
    };
    requests.send(to_server(JsonToServer::Subscribe(open))).await?;
    let mut frames = old.subscribe_durable(ReceiverStream::new(outgoing)).await?.into_inner();
    for (subject, payload) in [(r#"["elder",7,"new"]"#, b"new"), (r#"["elder",7,"old"]"#, b"old")] {
        let frame = within(frames.message()).await??.expect("a message");
        let Some(JsonFromServer::Envelope(got)) = frame.msg else {
            anyhow::bail!("not a first delivery: {frame:?}")
        };
        same((got.subject.as_str(), got.payload.as_slice()), (subject, payload.as_slice()))?;
        requests.send(to_server(JsonToServer::Ack(Ack { message_id: got.id }))).await?;
    }
    Ok(())
}

/// Plain text, for clients in other languages; they get text back.
pub async fn text_subjects(server: &mut Server) -> Result<()> {
    let client = server.connect().await?;
    let mut rpc = client.rpc();
    let pattern =
        hermes_proto::SubscribeRequest { subject: b"text.*.>".to_vec(), queue_groups: vec![] };
    let mut to_text = rpc.subscribe(pattern).await?.into_inner();
    let mut to_new = client.subscribe_raw(&Subject::from("text.42.>"), &[]).await?;
    let mut sent = envelope(&Subject::new(), vec![]);
    sent.subject = b"text.42.a".to_vec();
    rpc.publish(tokio_stream::once(sent)).await?;
    let got = within(to_text.message()).await??.expect("a message");
    same(got.subject, b"text.42.a".to_vec())?;
    same(next(&mut to_new).await?.subject, Subject::from("text.42.a").to_bytes())
}
