//! `listen` held to the contract of sources, over a real server. `pgcall` has nothing that could be lost: each round looks
//! at what is there.

#[path = "../../../../replayforge/tests/it/support/postgres_programs.rs"]
mod postgres_programs;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use super::super::Source;
use super::super::contract::{Delivery, Origin, build_source, check_source_contract};
use postgres_programs::SystemUser;

/// How long a server may take to start.
const SOON: Duration = Duration::from_secs(60);
const USER: &str = "tester";
/// No port: tests reach it over its socket alone.
const SETTINGS: &str = "
listen_addresses = ''
fsync = off
shared_buffers = 16MB
autovacuum = off
";

/// A server in a folder; ended at once when dropped.
struct Postgres {
    server: Child,
    folder: TempDir,
}

impl Postgres {
    async fn start() -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        let owner = SystemUser::find();
        owner.own(folder.path());
        let data = folder.path().join("data");
        let mut init = owner.run("initdb");
        init.arg("-D").arg(&data).args(["-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"]);
        let done = init.arg("--locale=C.UTF-8").stdin(Stdio::null()).output().expect("initdb");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let file = data.join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        let socket = format!("unix_socket_directories = '{}'\n", folder.path().display());
        fs::write(&file, format!("{text}{SETTINGS}{socket}")).unwrap();
        let mut start = owner.run("postgres");
        start.arg("-D").arg(&data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let postgres = Postgres { server: start.spawn().expect("postgres"), folder };
        let since = Instant::now();
        while sql(postgres.folder.path(), "SELECT 1").await.is_err() {
            assert!(since.elapsed() < SOON, "the server does not start");
            sleep(Duration::from_millis(20)).await;
        }
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.server), Signal::QUIT).expect("an own process");
        self.server.wait().expect("an own process ends");
    }
}

/// Runs statements on a connection of their own.
async fn sql(folder: &Path, sql: &str) -> Result<(), tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(folder).user(USER).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    let work = async {
        let done = client.batch_execute(sql).await;
        // With its client the connection ends.
        drop(client);
        done
    };
    let (done, _ended) = tokio::join!(work, connection);
    done
}

/// A table whose rows are announced.
struct Outbox<'a> {
    folder: &'a Path,
    name: String,
    has_cursor: bool,
}

impl Origin for Outbox<'_> {
    fn source(&self) -> Box<dyn Source> {
        let from = if self.has_cursor {
            "WHERE id > coalesce(nullif(current_setting('replayforge.cursor'), ''), '-1')::bigint"
        } else {
            ""
        };
        let params = json!({
            "host": self.folder,
            "user": USER,
            "database": "postgres",
            "channels": [self.name],
            "rereadSql": format!("SELECT id FROM {} {from} ORDER BY id", self.name),
            "cursor": if self.has_cursor { "id" } else { "" },
        });
        build_source("listen", &params)
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let name = &self.name;
            let text = format!(
                "CREATE TABLE IF NOT EXISTS {name} (id bigint); \
                INSERT INTO {name} VALUES ({number}); NOTIFY {name}, '{number}'"
            );
            sql(self.folder, &text).await.expect("the server runs");
        })
    }

    /// Of a row, or of its announcement.
    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
        body["row"]["id"].as_u64().or_else(|| body["payload"].as_str()?.parse().ok())
    }

    fn delivery(&self) -> Delivery {
        if self.has_cursor { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce }
    }
}

async fn check(has_cursor: bool) {
    let postgres = Postgres::start().await;
    let tables = AtomicU64::new(0);
    check_source_contract(|| {
        let name = format!("t{}", tables.fetch_add(1, Ordering::Relaxed));
        Outbox { folder: postgres.folder.path(), name, has_cursor }
    })
    .await;
}

#[tokio::test]
pub(crate) async fn notifications_keep_the_contract() {
    check(false).await;
}

#[tokio::test]
pub(crate) async fn rows_behind_a_cursor_keep_the_contract() {
    check(true).await;
}
