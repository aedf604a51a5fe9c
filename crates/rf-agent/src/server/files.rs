//! Files of one folder.
//!
//! Promise: nothing outside of the folder is ever served, whatever the path says and wherever a symbolic link in the folder
//! points; names that begin with a dot are not there. Ranges, types and conditional requests are `ServeFile`'s, but for
//! ranges that are to be passed over.

use std::convert::Infallible;
use std::io;
use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use percent_encoding::percent_decode_str;
use rf_core::config::{Node, Problems};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::refusal;

/// Shown for a folder.
const INDEX: &str = "index.html";
/// The one name with a dot that is meant for others (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// `staticFolderPath` of a player, `static_dir` of a `db` sink.
#[derive(Debug, Clone)]
pub(crate) struct StaticFolder {
    /// Without links in it.
    root: PathBuf,
}

/// What a path means.
#[derive(Debug, PartialEq)]
enum Found {
    File(PathBuf),
    /// A folder that was named without the slash that relative links in its index need.
    FolderWithoutSlash,
    Nothing,
}

impl StaticFolder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        if root.is_dir() { Ok(Self { root }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// The folder that stands at `place`; the outer `None` is an error that was reported, as for one that `data_dir` lies in. One
    /// that is not there is warned of: neither are its files.
    pub(crate) fn configured(
        path: &Path,
        data_dir: &Path,
        place: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Option<Self>> {
        let error = match Self::open(path) {
            Ok(folder) if folder.holds(data_dir) => {
                problems.error(
                    place,
                    "dataDir lies in this folder, so the queue would be served to everybody: choose another one",
                );
                return None;
            }
            Ok(folder) => return Some(Some(folder)),
            Err(error) => error,
        };
        let shown = std::path::absolute(path).unwrap_or_else(|_no_directory| path.to_owned());
        let text = format!("folder {}: {error}", shown.display());
        if error.kind() == io::ErrorKind::NotFound {
            problems.warn(
                place,
                format!("{text}: no files are served until the folder exists at a start"),
            );
            Some(None)
        } else {
            problems.error(place, text);
            None
        }
    }

    /// Whether this path, which need not exist yet, lies in the folder.
    fn holds(&self, path: &Path) -> bool {
        let absolute = std::path::absolute(path).unwrap_or_else(|_no_directory| path.to_owned());
        // Links are followed as far as there is something.
        let known = absolute.ancestors().find_map(|known| known.canonicalize().ok());
        absolute.starts_with(&self.root) || known.is_some_and(|known| known.starts_with(&self.root))
    }

    /// The answer when there is a file for `path`, as it stands in the URL.
    pub(crate) async fn serve(&self, path: &str, head: &Parts) -> Option<Response> {
        let wanted = relative(path)?;
        let (folder, ends_with_slash) = (self.clone(), path.ends_with('/') || path.is_empty());
        let look = move || folder.find(&wanted, ends_with_slash);
        match tokio::task::spawn_blocking(look).await.unwrap_or(Found::Nothing) {
            Found::File(path) => Some(send(&path, head).await),
            Found::FolderWithoutSlash => Some(redirect_into(path)),
            Found::Nothing => None,
        }
    }

    fn find(&self, wanted: &Path, ends_with_slash: bool) -> Found {
        let inside = |path: &Path| {
            let real = path.canonicalize().ok()?;
            real.starts_with(&self.root).then_some(real)
        };
        let Some(path) = inside(&self.root.join(wanted)) else { return Found::Nothing };
        if path.is_file() {
            return if ends_with_slash { Found::Nothing } else { Found::File(path) };
        }
        let index = path.is_dir().then(|| inside(&path.join(INDEX))).flatten();
        match index.filter(|index| index.is_file()) {
            Some(_) if !ends_with_slash => Found::FolderWithoutSlash,
            Some(index) => Found::File(index),
            None => Found::Nothing,
        }
    }
}

/// The path below the folder; `None` when it can name nothing there.
fn relative(path: &str) -> Option<PathBuf> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    if decoded.contains('\0') {
        return None;
    }
    let mut relative = PathBuf::new();
    for part in decoded.split('/').filter(|part| !part.is_empty()) {
        let mut components = Path::new(part).components();
        let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else {
            return None;
        };
        if part.starts_with('.') && part != WELL_KNOWN {
            return None;
        }
        relative.push(name);
    }
    Some(relative)
}

async fn send(path: &Path, head: &Parts) -> Response {
    let mut copy = Request::new(Body::empty());
    copy.method_mut().clone_from(&head.method);
    copy.headers_mut().clone_from(&head.headers);
    if !asks_for_one_range(&head.headers) {
        // RFC 9110, 14.2: what is no valid range is as if it were not there, and of several the whole may be sent.
        copy.headers_mut().remove(RANGE);
    }
    let sent: Result<_, Infallible> = ServeFile::new(path).oneshot(copy).await;
    let mut response = sent.into_response();
    if response.status().is_client_error() || response.status().is_server_error() {
        response = with_reason(&response);
    }
    // Asked again at each use, and answered 304 while it is the same: an edit shows at once.
    let revalidate = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, revalidate);
    response
}

/// What `ServeFile` refuses without a word, in the form that all errors have here.
fn with_reason(refused: &Response) -> Response {
    let text = match refused.status() {
        StatusCode::RANGE_NOT_SATISFIABLE => {
            "the file has no such range: `Content-Range` tells its length"
        }
        StatusCode::PRECONDITION_FAILED => "the file has changed since",
        StatusCode::NOT_FOUND => "no such file",
        _ => "the file cannot be read",
    };
    let mut response = refusal(refused.status(), text);
    if let Some(range) = refused.headers().get(CONTENT_RANGE) {
        response.headers_mut().insert(CONTENT_RANGE, range.clone());
    }
    response
}

/// `bytes=1-3`, `bytes=1-` or `bytes=-3`.
fn asks_for_one_range(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return false };
    let range = range.to_str().ok().and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match (first, last) {
        ("", last) => is_number(last),
        (first, "") => is_number(first),
        (first, last) if is_number(first) && is_number(last) => {
            let [first, last] = [first, last].map(|text| text.parse::<u64>().ok());
            first.is_some() && first <= last
        }
        _ => false,
    }
}

fn redirect_into(path: &str) -> Response {
    let last = path.rsplit('/').next().unwrap_or_default();
    // Relative, so that it also holds behind a proxy that adds a prefix.
    match HeaderValue::try_from(format!("./{last}/")) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(_not_a_header) => refusal(StatusCode::NOT_FOUND, "no such file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_is_known_before_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let www = folder.path().join("www");
        std::fs::create_dir(&www).unwrap();
        let open = |path: &Path| StaticFolder::open(path).unwrap();
        assert!(open(&www).holds(&www.join("not-made-yet")));
        assert!(open(folder.path()).holds(&www));
        assert!(open(&www).holds(&www));
        assert!(!open(&www).holds(folder.path()));
    }
}
