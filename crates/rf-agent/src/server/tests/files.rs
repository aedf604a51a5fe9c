use std::os::unix::fs::symlink;

use super::*;

struct Files {
    outside: tempfile::TempDir,
    inside: tempfile::TempDir,
}

fn files() -> Files {
    let files =
        Files { outside: tempfile::tempdir().unwrap(), inside: tempfile::tempdir().unwrap() };
    write(files.outside.path(), "secret.txt", "secret");
    write(files.outside.path(), "index.html", "secret");
    let inside = files.inside.path();
    write(inside, "a b.txt", "blank");
    write(inside, "page.html", "<p>");
    write(inside, "sub/index.html", "sub index");
    write(inside, "sub/data.json", "[0123456789]");
    write(inside, "empty/.keep", "hidden");
    write(inside, ".env", "hidden");
    write(inside, ".git/config", "hidden");
    write(inside, ".well-known/security.txt", "well known");
    write(inside, "db/own.txt", "before the sink");
    symlink(files.outside.path().join("secret.txt"), inside.join("link.txt")).unwrap();
    symlink(files.outside.path(), inside.join("linked")).unwrap();
    symlink("sub/data.json", inside.join("within.json")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    std::fs::create_dir(inside.join("trap")).unwrap();
    symlink(files.outside.path().join("index.html"), inside.join("trap/index.html")).unwrap();
    files
}

fn serving(files: &Files) -> Running {
    let mut plan = plan();
    plan.folder = Some(StaticFolder::open(files.inside.path()).unwrap());
    start(plan)
}

#[tokio::test]
async fn files_are_below_static_and_at_the_root() {
    let files = files();
    let server = serving(&files);
    for (path, kind, expected) in [
        ("page.html", "text/html", "<p>"),
        ("a%20b.txt", "text/plain", "blank"),
        ("sub/", "text/html", "sub index"),
        ("sub//data.json", "application/json", "[0123456789]"),
        ("within.json", "application/json", "[0123456789]"),
        (".well-known/security.txt", "text/plain", "well known"),
        ("db/own.txt", "text/plain", "before the sink"),
    ] {
        for prefix in ["/", "/static/"] {
            let answer = server.get(&format!("{prefix}{path}")).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, expected), "{path}");
            assert!(answer.header("content-type").starts_with(kind), "{path}");
            assert_eq!(answer.header("cache-control"), "no-cache");
        }
    }
    let answer = server.get("/sub").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (307, "./sub/"));
    assert_eq!(server.get("/db/other.txt").await.text(), "GET /other.txt ", "the sink is next");
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_served() {
    let files = files();
    let server = serving(&files);
    let name = files.outside.path().file_name().unwrap().to_str().unwrap().to_owned();
    for path in [
        "link.txt",
        "linked/secret.txt",
        "linked/",
        "trap/",
        "loop",
        ".env",
        ".git/config",
        "empty/.keep",
        "empty/",
        "page.html/",
        "page.html%00.txt",
        "%ff",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "%2e%2e/secret.txt",
        "sub/%2e%2e/page.html",
        "./page.html",
        "/etc/passwd",
        "%2fetc%2fpasswd",
    ] {
        for prefix in ["/", "/static/"] {
            let answer = server.get(&format!("{prefix}{path}")).await;
            assert_eq!(answer.status, 404, "{prefix}{path}: {}", answer.text());
        }
    }
    let out = format!("/static/../{name}/secret.txt");
    assert_eq!(server.get(&out).await.status, 404);
}

#[tokio::test]
async fn parts_and_conditions_work() {
    let files = files();
    let server = serving(&files);
    let path = "/static/sub/data.json";
    let part = server.ask("GET", path, &[("range", "bytes=1-3")], "").await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "012"));
    assert_eq!(part.header("content-range"), "bytes 1-3/12");
    for (range, status, expected) in [
        ("bytes=-2", 206, "9]"),
        ("bytes=10-", 206, "9]"),
        ("bytes=10-99", 206, "9]"),
        // What is no range, or several, is passed over.
        ("bytes=abc", 200, "[0123456789]"),
        ("bytes=5-2", 200, "[0123456789]"),
        ("bytes=-", 200, "[0123456789]"),
        ("bytes=+1-3", 200, "[0123456789]"),
        ("bytes=0-1,5-6", 200, "[0123456789]"),
        ("lines=1-3", 200, "[0123456789]"),
    ] {
        let part = server.ask("GET", path, &[("range", range)], "").await;
        assert_eq!((part.status.as_u16(), part.text().as_str()), (status, expected), "{range}");
    }
    let first = server.get(path).await;
    let since = first.header("last-modified");
    let again = server.ask("GET", path, &[("if-modified-since", since)], "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let head = server.ask("HEAD", path, &[], "").await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "12"));
    assert_eq!(server.ask("POST", path, &[], "").await.status, 404, "files are only read");
}

#[tokio::test]
async fn what_a_file_is_refused_for_is_told_as_all_errors_are() {
    let files = files();
    let server = serving(&files);
    let path = "/static/sub/data.json";
    let beyond = server.ask("GET", path, &[("range", "bytes=50-")], "").await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, "bytes */12"));
    assert_eq!(beyond.header("content-type"), "application/json");
    let expected = r#"{"error":"the file has no such range: `Content-Range` tells its length"}"#;
    assert_eq!(beyond.text(), expected);
    let long_ago = ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT");
    let changed = server.ask("GET", path, &[long_ago], "").await;
    assert_eq!(changed.status, 412);
    assert_eq!(changed.text(), r#"{"error":"the file has changed since"}"#);
}

#[tokio::test]
async fn large_answers_are_packed_for_those_who_ask() {
    let files = files();
    write(files.inside.path(), "large.txt", &"a line\n".repeat(10_000));
    let server = serving(&files);
    let packed = server.ask("GET", "/large.txt", &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() < 5_000, "{}", packed.body.len());
    assert_eq!(server.get("/large.txt").await.body.len(), 70_000);
}

#[tokio::test]
async fn an_index_of_the_folder_takes_the_place_of_the_page() {
    let files = files();
    let server = serving(&files);
    assert!(server.get("/").await.text().contains("ReplayForge"));
    write(files.inside.path(), "index.html", "mine");
    assert_eq!(server.get("/").await.text(), "mine");
    let page = server.get("/-/").await;
    assert!(page.text().contains("ReplayForge"));
    assert!(
        page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'")
    );
}
