//! Waiting for what must come, and for what must not.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use tonic::{Code, Status};

use crate::client::{DurableMessage, DurableSubscriber, Events};

const COMES_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing has to come to be believed.
pub const QUIET_FOR: Duration = Duration::from_millis(400);

/// The next of a live subscription.
pub async fn next<T>(events: &mut Events<T>) -> Result<T> {
    within(events.next()).await?.context("the subscription ended")?
}

/// The next `count` of a live subscription.
pub async fn take<T>(events: &mut Events<T>, count: usize) -> Result<Vec<T>> {
    let mut got = Vec::with_capacity(count);
    while got.len() < count {
        got.push(next(events).await.with_context(|| format!("after {} of {count}", got.len()))?);
    }
    Ok(got)
}

/// The next of a durable subscription.
pub async fn deliver<E>(subscriber: &mut DurableSubscriber<E>) -> Result<DurableMessage<E>> {
    match within(subscriber.next()).await? {
        Some(message) => message,
        None => bail!("the durable stream ended: {:?}", subscriber.error()),
    }
}

/// Nothing comes for a while.
pub async fn quiet<E: Debug>(subscriber: &mut DurableSubscriber<E>) -> Result<()> {
    match tokio::time::timeout(QUIET_FOR, subscriber.next()).await {
        Err(_) => Ok(()),
        Ok(None) => bail!("the durable stream ended: {:?}", subscriber.error()),
        Ok(Some(message)) => {
            let message = message?;
            bail!("unexpected: {:?}, attempt {}", message.event, message.attempt)
        }
    }
}

pub async fn within<F: Future>(future: F) -> Result<F::Output> {
    tokio::time::timeout(COMES_WITHIN, future).await.context("nothing came")
}

/// The call was refused with this code, and says why.
pub fn refused<T>(answer: Result<T, Status>, code: Code) -> Result<()> {
    match answer {
        Ok(_) => bail!("accepted, expected {code:?}"),
        Err(status) => {
            ensure!(status.code() == code, "expected {code:?}, got {status:?}");
            ensure!(!status.message().is_empty(), "{code:?} without a message");
            Ok(())
        }
    }
}

pub fn same<T: PartialEq + Debug>(got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "got {got:?}, expected {expected:?}");
    Ok(())
}
