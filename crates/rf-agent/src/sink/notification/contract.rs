//! The sink's contract, with a service that keeps every text.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::Sink;
use super::tests::{Service, build_named};
use crate::sink::contract::{Promise, Subject, check_sink_contract};

/// A service with the sink that tells it every event.
struct Told(Service);

impl Subject for Told {
    /// The one message that a kill cuts is told again.
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        let webhook = json!({ "url": self.0.url, "groupMax": 1 });
        build_named("subject", &json!({ "webhooks": { "service": webhook } })).unwrap()
    }

    fn event(&self, number: usize) -> String {
        json!({ "method": "POST", "path": "/", "body": number.to_string() }).to_string()
    }

    fn refused(&self) -> Option<String> {
        Some(json!({ "method": "POST", "path": "/", "body": "" }).to_string())
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let told = self.0.taken();
        let numbers = told.iter().map(|text| text.parse().unwrap()).collect();
        Box::pin(std::future::ready(numbers))
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_service_is_told_everything() {
    check_sink_contract(&Told(Service::start(|_| 200).await)).await;
}
