//! A client with the methods of `hermes-broker-client` 0.4, over the tonic client that
//! `hermes-broker-proto` 0.4.1 generates.
//!
//! The client crate of that version cannot be had any more (README.md), the crates below
//! it can. So what goes over the wire is theirs: service, messages, subjects, payloads,
//! the HTTP/2 stack. What this file adds is what the client did with them: which calls it
//! makes, what it puts into an envelope, what it awaits, and how its streams end.
//!
//! Two habits of it matter to a server and are kept:
//! - each `subscribe*` returns when the response headers are there, not before;
//! - a dropped `DurableSubscriber` keeps its stream until one more message has come.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use futures::stream::{self, BoxStream, StreamExt};
use hermes_core::{Event, EventGroup, Subject};
use hermes_proto::broker_client::BrokerClient;
use hermes_proto::durable_client_message::Msg as ToServer;
use hermes_proto::durable_server_message::Msg as FromServer;
use hermes_proto::{
    Ack, DurableClientMessage, DurableServerMessage, DurableSubscribeRequest, EventEnvelope, Nack,
    PublishAck, SubscribeRequest,
};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

const BATCH_CAPACITY: usize = 8192;

#[derive(Clone)]
pub struct HermesClient {
    rpc: BrokerClient<Channel>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl HermesClient {
    pub async fn connect(uri: String) -> Result<Self> {
        let rpc = BrokerClient::connect(uri).await?;
        Ok(Self { rpc, tasks: Arc::default() })
    }

    /// The generated client, for requests that this one never makes.
    pub fn rpc(&self) -> BrokerClient<Channel> {
        self.rpc.clone()
    }

    /// What the end of the process would do: every stream and the connection go.
    pub fn vanish(self) {
        for task in self.tasks.lock().expect("no panic under this lock").drain(..) {
            task.abort();
        }
    }

    // ------------------------------------------------------------ fire-and-forget

    pub async fn publish<E: Event>(&self, event: &E) -> Result<()> {
        self.publish_on(event, &event.subject()).await
    }

    pub async fn publish_on<E: Event>(&self, event: &E, subject: &Subject) -> Result<()> {
        self.publish_raw(subject, hermes_core::encode(event)?).await
    }

    pub async fn publish_raw(&self, subject: &Subject, payload: Vec<u8>) -> Result<()> {
        let envelope = envelope(subject, payload);
        self.rpc().publish(tokio_stream::once(envelope)).await?;
        Ok(())
    }

    pub fn batch_publisher(&self) -> BatchPublisher {
        let (sender, envelopes) = mpsc::channel(BATCH_CAPACITY);
        let mut rpc = self.rpc();
        let stream = tokio::spawn(async move {
            let answer = rpc.publish(ReceiverStream::new(envelopes)).await?;
            Ok(answer.into_inner())
        });
        BatchPublisher { sender, stream }
    }

    pub async fn subscribe<E: Event>(&self, groups: &[&str]) -> Result<Events<E>> {
        let mut streams = Vec::new();
        for subject in E::subjects() {
            streams.push(self.subscribe_on::<E>(&subject, groups).await?);
        }
        Ok(stream::select_all(streams).boxed())
    }

    pub async fn subscribe_on<E: Event>(
        &self,
        subject: &Subject,
        groups: &[&str],
    ) -> Result<Events<E>> {
        let raw = self.subscribe_raw(subject, groups).await?;
        Ok(raw.map(|item| Ok(hermes_core::decode(&item?.payload)?)).boxed())
    }

    pub async fn subscribe_group<G: EventGroup>(&self, groups: &[&str]) -> Result<Events<G>> {
        let mut streams = Vec::new();
        for subject in G::subjects() {
            let raw = self.subscribe_raw(&subject, groups).await?;
            streams.push(raw.map(|item| {
                let envelope = item?;
                let subject = Subject::from_bytes(&envelope.subject)?;
                Ok(G::decode_event(&subject, &envelope.payload)?)
            }));
        }
        Ok(stream::select_all(streams).boxed())
    }

    pub async fn subscribe_raw(
        &self,
        subject: &Subject,
        groups: &[&str],
    ) -> Result<Events<EventEnvelope>> {
        let request = SubscribeRequest { subject: subject.to_bytes(), queue_groups: owned(groups) };
        let frames = self.rpc().subscribe(request).await?.into_inner();
        Ok(frames.map(|frame| Ok(frame?)).boxed())
    }

    // -------------------------------------------------------------------- durable

    pub async fn publish_durable<E: Event>(&self, event: &E) -> Result<()> {
        let envelope = envelope(&event.subject(), hermes_core::encode(event)?);
        self.rpc().publish_durable(tokio_stream::once(envelope)).await?;
        Ok(())
    }

    pub async fn subscribe_durable<E: Event>(
        &self,
        consumer: &str,
        groups: &[&str],
        max_in_flight: u32,
        ack_timeout_secs: u32,
    ) -> Result<DurableSubscriber<E>> {
        let subject = E::subjects().into_iter().next().context("an event without subject")?;
        let capacity = max_in_flight as usize;
        let (outgoing, requests) = mpsc::channel(capacity);
        let open = DurableSubscribeRequest {
            subject: subject.to_bytes(),
            consumer_name: consumer.to_owned(),
            queue_groups: owned(groups),
            max_in_flight,
            ack_timeout_seconds: ack_timeout_secs,
        };
        outgoing.send(to_server(ToServer::Subscribe(open))).await?;
        let frames =
            self.rpc().subscribe_durable(ReceiverStream::new(requests)).await?.into_inner();

        let (inbox, messages) = mpsc::channel(capacity);
        let end = Arc::default();
        let pump = tokio::spawn(pump(frames, inbox, outgoing.clone(), Arc::clone(&end)));
        self.tasks.lock().expect("no panic under this lock").push(pump.abort_handle());
        Ok(DurableSubscriber { messages, outgoing, end })
    }
}

/// One fire-and-forget stream held open for many events.
pub struct BatchPublisher {
    sender: mpsc::Sender<EventEnvelope>,
    stream: JoinHandle<Result<PublishAck>>,
}

impl BatchPublisher {
    pub async fn send<E: Event>(&self, event: &E) -> Result<()> {
        self.send_raw(&event.subject(), hermes_core::encode(event)?).await
    }

    pub async fn send_raw(&self, subject: &Subject, payload: Vec<u8>) -> Result<()> {
        Ok(self.sender.send(envelope(subject, payload)).await?)
    }

    pub async fn flush(self) -> Result<PublishAck> {
        drop(self.sender);
        self.stream.await?
    }
}

pub type Events<T> = BoxStream<'static, Result<T>>;

pub struct DurableMessage<E> {
    pub event: E,
    pub message_id: String,
    pub attempt: u32,
    outgoing: mpsc::Sender<DurableClientMessage>,
}

impl<E> DurableMessage<E> {
    pub async fn ack(self) -> Result<()> {
        let ack = Ack { message_id: self.message_id };
        Ok(self.outgoing.send(to_server(ToServer::Ack(ack))).await?)
    }

    pub async fn nack(self, requeue: bool) -> Result<()> {
        let nack = Nack { message_id: self.message_id, requeue };
        Ok(self.outgoing.send(to_server(ToServer::Nack(nack))).await?)
    }
}

pub struct DurableSubscriber<E> {
    messages: mpsc::Receiver<Result<DurableMessage<E>>>,
    outgoing: mpsc::Sender<DurableClientMessage>,
    end: Arc<Mutex<Option<Status>>>,
}

impl<E> DurableSubscriber<E> {
    pub async fn next(&mut self) -> Option<Result<DurableMessage<E>>> {
        self.messages.recv().await
    }

    /// The error that ended the stream. The client of 0.4 hides it and just ends.
    pub fn error(&self) -> Option<Status> {
        self.end.lock().expect("no panic under this lock").clone()
    }

    /// Gives the acks made so far time to reach the server. Nothing on the wire confirms
    /// them, so this is the one place that has to wait by the clock.
    pub async fn settle(&self) {
        while self.outgoing.capacity() < self.outgoing.max_capacity() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn pump<E: Event>(
    mut frames: Streaming<DurableServerMessage>,
    inbox: mpsc::Sender<Result<DurableMessage<E>>>,
    outgoing: mpsc::Sender<DurableClientMessage>,
    end: Arc<Mutex<Option<Status>>>,
) {
    loop {
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(status) => {
                *end.lock().expect("no panic under this lock") = Some(status);
                return;
            }
        };
        let Some((envelope, attempt)) = delivery(frame) else { continue };
        let item = hermes_core::decode::<E>(&envelope.payload).map_err(Into::into).map(|event| {
            DurableMessage { event, message_id: envelope.id, attempt, outgoing: outgoing.clone() }
        });
        if inbox.send(item).await.is_err() {
            return;
        }
    }
}

/// The envelope of a frame and its attempt: 1 for a first delivery.
pub fn delivery(frame: DurableServerMessage) -> Option<(EventEnvelope, u32)> {
    match frame.msg? {
        FromServer::Envelope(envelope) => Some((envelope, 1)),
        FromServer::Redelivery(again) => Some((again.envelope?, again.attempt)),
    }
}

pub fn to_server(msg: ToServer) -> DurableClientMessage {
    DurableClientMessage { msg: Some(msg) }
}

/// An envelope as the client of 0.4 makes it: a UUID of version 7, no headers, now.
pub fn envelope(subject: &Subject, payload: Vec<u8>) -> EventEnvelope {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventEnvelope {
        id: uuid::Uuid::now_v7().to_string(),
        subject: subject.to_bytes(),
        payload,
        headers: Default::default(),
        timestamp_nanos: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
    }
}

fn owned(groups: &[&str]) -> Vec<String> {
    groups.iter().map(ToString::to_string).collect()
}
