//! Real web servers, started in a folder of the test.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::wait::{SOON, eventually};
use super::wire::Wire;

/// Servers are not in the PATH of everybody, and what is no Debian package is where test.sh puts it.
pub(crate) fn server_program(name: &str) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let own = cache.map(|cache| cache.join("replayforge-tools/bin"));
    let folders = own.into_iter().chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|there| there.exists()).unwrap_or(name.into())
}

/// nginx with this content of `http`, not yet started; what it writes goes into the folder.
pub(crate) fn nginx(folder: &Path, content: &str) -> Command {
    // Workers of root would be somebody else, who may not write here.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {};\n", folder.join(name).display()))
        .collect();
    let file = format!(
        "daemon off;\n{user}\npid {}/nginx.pid;\nerror_log stderr;\nworker_processes 1;\nevents {{}}\n\
        http {{\naccess_log off;\n{paths}{content}}}\n",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), file).unwrap();
    let mut command = Command::new(server_program("nginx"));
    command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}

/// A web server that ends when this is dropped; what it says is in `front.log` of its folder.
pub(crate) struct WebServer {
    server: Child,
    log: PathBuf,
}

impl WebServer {
    /// Started, and listening on the port.
    pub(crate) fn start(mut command: Command, folder: &Path, port: u16) -> WebServer {
        let log = folder.join("front.log");
        let output = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let server = command.spawn().expect("the server is installed: see test.sh");
        let mut server = WebServer { server, log };
        eventually("the server takes connections", SOON, || {
            if let Some(status) = server.server.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.log());
            }
            Wire::try_connect(port).is_ok()
        });
        server
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        if self.server.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // SIGTERM: nginx and HAProxy take their workers with them.
        kill_process(Pid::from_child(&self.server), Signal::TERM).expect("an own process");
        let ended = || self.server.try_wait().is_ok_and(|status| status.is_some());
        eventually("the end of the server", SOON, ended);
    }
}
