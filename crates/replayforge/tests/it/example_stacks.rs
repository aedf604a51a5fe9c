//! Every folder of `examples/` works as its README says: the commands that stand there are run as they stand, but for ports,
//! folders and tokens, and what comes out at the other end is counted.
//!
//! `prometheus-grafana` has its test where Prometheus is started: [`crate::metrics`].

mod access_log;
mod datadog_batches;
mod exec_source;
mod http_replay;
mod inline_capture;
mod loki_push;
mod no_message_alert;
mod post_to_an_api;
mod postgres_status;
mod rig;
mod two_servers_one_player;
mod webhook_fan_out;
