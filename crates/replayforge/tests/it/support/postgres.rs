//! A real PostgreSQL server: made in a temporary folder, started on a port of its own, and never left behind.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::ports::free_port;
use super::postgres_programs::SystemUser;
use super::wait::{SOON, eventually, eventually_some};

/// The superuser that everybody may be who comes from this machine with the password.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "s3cret-of-tester";

/// Settings that matter to a test server: quick, small, and only where it is told to be.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
shared_buffers = 16MB
max_connections = 20
autovacuum = off
log_min_messages = fatal
";

/// A server, running unless it was stopped. Dropped, it is ended at once.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    server: Option<Child>,
    folder: TempDir,
}

impl Postgres {
    /// Without TLS, passwords checked with SCRAM.
    pub(crate) fn start() -> Postgres {
        Postgres::with("", "host all all 127.0.0.1/32 scram-sha-256\n")
    }

    /// With TLS alone, as `localhost`; the certificate is from the authority in [`Postgres::ca_file`].
    pub(crate) fn start_with_tls() -> Postgres {
        Postgres::with(
            "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n",
            "hostssl all all 127.0.0.1/32 scram-sha-256\n",
        )
    }

    /// The authority of [`Postgres::start_with_tls`].
    pub(crate) fn ca_file() -> PathBuf {
        certificates().join("ca.pem")
    }

    fn with(settings: &str, access: &str) -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        let owner = SystemUser::find();
        owner.own(folder.path());
        let mut postgres = Postgres { port: free_port(), server: None, folder };
        let data = postgres.data();
        let mut init = owner.run("initdb");
        init.args(["-D", &data.display().to_string(), "-U", USER, "-E", "UTF8"]);
        init.args(["--locale=C.UTF-8", "--no-sync", "-A", "trust"]);
        let done = init.stdin(Stdio::null()).output().expect("initdb can be started");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        append(&data.join("postgresql.conf"), SETTINGS);
        let own = format!(
            "port = {}\nunix_socket_directories = '{}'\n{settings}",
            postgres.port,
            postgres.folder.path().display()
        );
        append(&data.join("postgresql.conf"), &own);
        // Over the socket a test is let in as it is; over TCP it must say the password.
        fs::write(data.join("pg_hba.conf"), format!("local all all trust\n{access}")).unwrap();
        for (from, to) in [("localhost.pem", "server.pem"), ("localhost.key", "server.key")] {
            fs::copy(certificates().join(from), data.join(to)).unwrap();
            fs::set_permissions(data.join(to), fs::Permissions::from_mode(0o600)).unwrap();
            owner.own(&data.join(to));
        }
        postgres.come_back();
        postgres.sql(&format!("ALTER USER {USER} PASSWORD '{PASSWORD}'"));
        postgres
    }

    /// Starts it again after [`Postgres::go_away`], with the same data and port.
    pub(crate) fn come_back(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut start = SystemUser::find().run("postgres");
        start.args(["-D", &self.data().display().to_string()]);
        start.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut server = start.spawn().expect("the server can be started");
        eventually("the server takes connections", SOON, || {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.log());
            }
            self.try_sql("SELECT 1").is_ok()
        });
        self.server = Some(server);
    }

    /// Stops it as an administrator does: connections are ended, what is committed stays.
    pub(crate) fn go_away(&mut self) {
        self.end(Signal::INT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        kill_process(Pid::from_child(&server), signal).expect("an own process can be signalled");
        eventually_some("the end of the server", SOON, || server.try_wait().unwrap());
    }

    /// Runs statements as the superuser; what they print, unaligned.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", "postgres"]);
        psql.args(["-h", &self.folder.path().display().to_string(), "-p", &self.port.to_string()]);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql is installed: see test.sh");
        // One that cannot connect does not read.
        drop(child.stdin.take().expect("piped").write_all(sql.as_bytes()));
        let done = child.wait_with_output().unwrap();
        if done.status.success() {
            Ok(String::from_utf8(done.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }

    /// What it has logged since the last start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate: nobody needs its data any more.
        self.end(Signal::QUIT);
    }
}

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rf-net/tests/it/data")
}

/// Root may write; the owner stays.
fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
