//! The events that are sent: derived with the macro of the crates.

use std::fmt::Debug;

use anyhow::Result;
use hermes_core::Event;
use serde::{Deserialize, Serialize};

use crate::client::HermesClient;

/// An event that is told apart by a number.
pub trait Numbered: Event + Debug {
    fn new(number: u32) -> Self;
    fn number(&self) -> u32;
}

/// Declares numbered events: `numbered!(Paid = "payments.paid", ...)`.
macro_rules! numbered {
    ($($name:ident = $subject:tt),+ $(,)?) => {$(
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, hermes_core::Event)]
        #[event(subject = $subject)]
        pub struct $name {
            number: u32,
        }

        impl $crate::events::Numbered for $name {
            fn new(number: u32) -> Self {
                Self { number }
            }

            fn number(&self) -> u32 {
                self.number
            }
        }
    )+};
}
pub(crate) use numbered;

/// Its subject is the module path and the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub struct Invoice {
    pub id: String,
    pub cents: u64,
    pub rate: f64,
    pub note: Option<String>,
    pub lines: Vec<(String, i32)>,
}

/// One subject per variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum Parcel {
    Sent { id: u32 },
    Lost(u32, String),
    Found,
}

/// Published durably, in this order, each when the one before is committed.
pub async fn publish_durably<E: Numbered>(
    client: &HermesClient,
    numbers: impl IntoIterator<Item = u32>,
) -> Result<()> {
    for number in numbers {
        client.publish_durable(&E::new(number)).await?;
    }
    Ok(())
}
