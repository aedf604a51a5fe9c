use super::*;
use crate::support::wire::call;

#[test]
fn the_server_runs_beside_the_player_and_asks_for_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _player = player(folder.path(), port, &json!({ "httpTokens": ["token-1"] }));
    assert_eq!(call(port, "GET", "/ping", &[], b"").text(), "pong");
    assert_eq!(call(port, "GET", "/sink/list", &[], b"").status(), 401);
    let headers: [(&str, &[u8]); 1] = [("Authorization", b"Bearer token-1")];
    let list = call(port, "GET", "/sink/list", &headers, b"").json();
    assert_eq!(list[1]["metadata"]["note"], HOSTILE);
    assert_eq!(call(port, "GET", "/shop/list", &headers, b"").json(), json!([]));
}

#[test]
fn a_browser_with_a_password_sees_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let login = json!({ "httpUsername": "anna", "httpPassword": "hunter2" });
    let _player = player(folder.path(), port, &login);
    let browser = Browser::start();
    browser.open(&format!("http://anna:hunter2@127.0.0.1:{port}/"));
    browser.wait_for(".card", "shop");
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn scripts_that_are_not_the_page_s_do_not_run() {
    let shown = Shown::with(|_| ());
    shown.open("/");
    shown.browser.wait_for(".card", "shop");
    shown.browser.run(
        "const script = document.createElement('script');
         script.textContent = 'window.hit = 1';
         document.body.append(script);",
    );
    assert_eq!(shown.browser.run("return window.hit ?? null;"), Value::Null);
    eventually("the console tells of it", SOON, || {
        shown.browser.log().iter().any(|line| line.contains("Content Security Policy"))
    });
}
