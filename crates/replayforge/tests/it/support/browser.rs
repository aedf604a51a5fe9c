//! A real browser: chromium without a window, told what to do through `ChromeDriver` (the W3C's `WebDriver` protocol).
//!
//! Both are Debian's packages `chromium` and `chromium-driver`, which `test.sh` installs. Nothing is fetched from outside:
//! the profile is a new folder, and pages are on loopback.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::http::{Kind, Message, request};
use super::wait::{SOON, eventually, eventually_some};

/// A browser starts in a second, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the end of the browser is waited for.
const PARTING: Duration = Duration::from_secs(5);
/// How `WebDriver` names an element in its JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en-GB",
];

/// Keys for [`Browser::press`], beside letters.
pub(crate) mod key {
    pub(crate) const ENTER: &str = "\u{e007}";
    pub(crate) const ESCAPE: &str = "\u{e00c}";
    pub(crate) const TAB: &str = "\u{e004}";
}

/// One window. Dropped, it and its driver are gone.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Stays open, so that the driver can go on writing; it says little.
    _said: BufReader<ChildStdout>,
    profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed: see test.sh");
        let mut said = BufReader::new(driver.stdout.take().expect("piped"));
        // ChromeDriver was started successfully on port 41337.
        let port = said.by_ref().lines().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ")?
                .1
                .trim_end_matches('.')
                .parse::<u16>()
                .ok()
        });
        let port = port.expect("ChromeDriver tells its port");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser { driver, port, session: String::new(), _said: said, profile };
        let folder = format!("--user-data-dir={}", browser.profile.path().display());
        let flags: Vec<&str> = FLAGS.iter().copied().chain([folder.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.call("POST", "/session", &wanted).expect("a browser starts");
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.resize(1280, 860);
        browser
    }

    /// Loads a page, with its scripts.
    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Inner width and height of the page.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        // The command is answered before the page has this size.
        let size = json!([width, height]);
        eventually("the page has its size", SOON, || {
            self.run("return [innerWidth, innerHeight];") == size
        });
    }

    /// As a user who likes it dark.
    pub(crate) fn prefer_dark(&self) {
        let feature = json!([{ "name": "prefers-color-scheme", "value": "dark" }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": feature }));
    }

    /// As a user in this time zone.
    pub(crate) fn live_in(&self, time_zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", &json!({ "timezoneId": time_zone }));
    }

    /// As a user who allows no scripts; what is asked of the page here still runs.
    pub(crate) fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// What a function body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the first element with this selector shows; `None` when there is none, or it is not seen.
    pub(crate) fn text(&self, selector: &str) -> Option<String> {
        self.texts(selector).into_iter().next()
    }

    /// What the elements with this selector show, those that are seen.
    pub(crate) fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({selector:?})].filter((e) => e.checkVisibility()).map((e) => (e.innerText ?? e.textContent).trim());"
        );
        let found = self.run(&script);
        let texts = found.as_array().expect("a list").iter();
        texts.map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until some element with this selector shows `wanted` somewhere in its text.
    pub(crate) fn wait_for(&self, selector: &str, wanted: &str) -> String {
        self.wait_for_within(selector, wanted, SOON)
    }

    /// As [`Browser::wait_for`], for what may take longer.
    pub(crate) fn wait_for_within(
        &self,
        selector: &str,
        wanted: &str,
        deadline: Duration,
    ) -> String {
        let started = Instant::now();
        let found = eventually_some("an end of the waiting", deadline * 2, || {
            let texts = self.texts(selector);
            let found = texts.iter().find(|text| text.contains(wanted)).cloned();
            match found {
                Some(text) => Some(Ok(text)),
                None => (started.elapsed() > deadline).then_some(Err(texts)),
            }
        });
        found.unwrap_or_else(|texts| {
            let (page, log) = (self.text("body").unwrap_or_default(), self.log());
            panic!("{selector} shows {texts:?}, not {wanted:?}; console: {log:?}; page:\n{page}")
        })
    }

    /// Waits until no element with this selector is seen.
    pub(crate) fn wait_until_gone(&self, selector: &str) {
        eventually_some(selector, SOON, || self.texts(selector).is_empty().then_some(()));
    }

    /// As a mouse does; the element must be seen.
    pub(crate) fn click(&self, selector: &str) {
        eventually(&format!("a click on {selector}"), SOON, || {
            let path =
                format!("/session/{}/element/{}/click", self.session, self.element(selector));
            match self.call("POST", &path, &json!({})) {
                Ok(_) => true,
                // The page was drawn anew in between.
                Err(error) if error.starts_with("stale element reference") => false,
                Err(error) => panic!("a click on {selector}: {error}"),
            }
        });
    }

    /// Presses the mouse's button in the middle of the element, and holds it.
    pub(crate) fn hold(&self, selector: &str) {
        let middle = self.run(&format!(
            "const box = document.querySelector({selector:?}).getBoundingClientRect();
             return [box.x + box.width / 2, box.y + box.height / 2].map(Math.round);"
        ));
        self.point(&json!([
            { "type": "pointerMove", "duration": 0, "x": middle[0], "y": middle[1] },
            { "type": "pointerDown", "button": 0 },
        ]));
    }

    /// Lets the mouse's button go, where the mouse is.
    pub(crate) fn let_go(&self) {
        self.point(&json!([{ "type": "pointerUp", "button": 0 }]));
    }

    fn point(&self, steps: &Value) {
        let source = json!({
            "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": steps,
        });
        self.command("/actions", &json!({ "actions": [source] }));
    }

    /// Types into the element.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Empties a field and types into it.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/clear"), &json!({}));
        self.type_into(selector, text);
    }

    /// Chooses the option with this text.
    pub(crate) fn choose(&self, selector: &str, option: &str) {
        let script = format!(
            "const select = document.querySelector({selector:?});
             const option = [...(select?.options ?? [])].find((o) => o.textContent.trim() === {option:?});
             if (!option) return false;
             select.value = option.value;
             select.dispatchEvent(new Event('input', {{ bubbles: true }}));
             select.dispatchEvent(new Event('change', {{ bubbles: true }}));
             return true;"
        );
        eventually_some(&format!("{option:?} in {selector}"), SOON, || {
            self.run(&script).as_bool().filter(|chosen| *chosen)
        });
    }

    /// Presses and releases keys, one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &[&str]) {
        let mut steps = Vec::new();
        for key in keys {
            steps.push(json!({ "type": "keyDown", "value": key }));
            steps.push(json!({ "type": "keyUp", "value": key }));
        }
        let source = json!({ "type": "key", "id": "keyboard", "actions": steps });
        self.command("/actions", &json!({ "actions": [source] }));
    }

    /// Lines of the console since the last call: errors of scripts, refusals of the security policy, failed requests. Not
    /// those of the browser's own first page.
    pub(crate) fn log(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let lines = entries.iter().filter_map(|entry| entry["message"].as_str());
        lines.filter(|line| !line.starts_with("chrome://")).map(str::to_owned).collect()
    }

    /// Saves what is seen as PNG.
    pub(crate) fn screenshot(&self, path: &Path) {
        let picture = self.ask("GET", "/screenshot", &Value::Null);
        let encoded = picture.as_str().expect("base64");
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
        std::fs::write(path, bytes).unwrap();
    }

    /// Asks again until there is one: pages are made by scripts.
    fn element(&self, selector: &str) -> String {
        let path = format!("/session/{}/element", self.session);
        let wanted = json!({ "using": "css selector", "value": selector });
        eventually_some(&format!("an element {selector}"), SOON, || {
            let found = self.call("POST", &path, &wanted).ok()?;
            Some(found[ELEMENT].as_str()?.to_owned())
        })
    }

    /// The driver has not ended it: its processes are those that name the profile.
    fn kill_chromium(&self) {
        let profile = self.profile.path().display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&profile) {
                // It may have ended by itself.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
        }
    }

    fn devtools(&self, method: &str, params: &Value) {
        self.command("/goog/cdp/execute", &json!({ "cmd": method, "params": params }));
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let full = format!("/session/{}{path}", self.session);
        self.call(method, &full, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.call_within(PATIENCE, method, path, body)
    }

    fn call_within(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let answer =
            self.exchange(patience, method, path, body).map_err(|error| error.to_string())?;
        let mut answer = answer.json();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
    }

    fn exchange(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: &Value,
    ) -> io::Result<Message> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(patience))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let host = format!("127.0.0.1:{}", self.port);
        let headers: [(&str, &[u8]); 3] = [
            ("Host", host.as_bytes()),
            ("Content-Type", b"application/json"),
            ("Connection", b"close"),
        ];
        stream.write_all(&request(method, path, &headers, body.as_bytes()))?;
        let mut reader = BufReader::new(stream);
        let mut answer = Message::read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        answer.read_body(&mut reader, Kind::Answer)?;
        Ok(answer)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let session = format!("/session/{}", self.session);
        let ended = self.call_within(PARTING, "DELETE", &session, &Value::Null);
        drop(self.driver.kill());
        drop(self.driver.wait());
        if ended.is_err() {
            self.kill_chromium();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::server::{Answer, Server};

    const PAGE: &str = r#"<!doctype html><title>t</title><style>body { color: black }
        @media (prefers-color-scheme: dark) { body { color: white } }</style>
        <p id="said">nothing</p><p hidden>unseen</p><input id="name"><button>Say</button><select id="pick"><option>one<option>two</select>
        <script>
          const said = document.getElementById("said"), name = document.getElementById("name");
          document.querySelector("button").onclick = () => { said.textContent = "hello " + name.value; };
          document.getElementById("pick").onchange = (e) => { said.textContent = "picked " + e.target.value; };
          onkeydown = (e) => { if (e.key === "Escape") said.remove(); };
          console.error("a line in the console");
        </script>"#;

    #[test]
    fn it_does_what_it_is_told() {
        let page = Answer::status(200).with_header("Content-Type", "text/html").with_body(PAGE);
        let port = crate::support::ports::free_port();
        let _server = Server::start(port, move |_| page.clone());
        let browser = Browser::start();
        browser.open(&format!("http://127.0.0.1:{port}/"));
        assert_eq!(browser.texts("p"), ["nothing"]);
        eventually("the console's line", SOON, || {
            browser.log().iter().any(|line| line.contains("a line in the console"))
        });

        browser.type_into("#name", "Anna");
        browser.click("button");
        browser.wait_for("#said", "hello Anna");
        browser.fill("#name", "Bo");
        browser.press(&[key::TAB, key::ENTER]);
        browser.wait_for("#said", "hello Bo");
        browser.choose("#pick", "two");
        assert_eq!(browser.text("#said").as_deref(), Some("picked two"));
        browser.press(&[key::ESCAPE]);
        browser.wait_until_gone("p");

        browser.resize(390, 844);
        assert_eq!(browser.run("return innerWidth;"), 390);
        let colour = "return getComputedStyle(document.body).color;";
        assert_eq!(browser.run(colour), "rgb(0, 0, 0)");
        browser.prefer_dark();
        assert_eq!(browser.run(colour), "rgb(255, 255, 255)");

        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("page.png");
        browser.screenshot(&picture);
        assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
    }
}
