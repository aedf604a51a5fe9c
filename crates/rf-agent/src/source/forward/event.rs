//! A copy becomes an event: what is secret is masked here, before anything is written anywhere.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use rf_core::event::{BodyNotes, CapturedAnswer, CapturedRequest, Timings, encode_exchange};
use uuid::Uuid;

use super::config::CaptureSettings;
use super::pile::{Copied, Side};
use crate::redact::{BodyForm, Redacted, Redactor, truncate};
use crate::source::http::written;

/// The event's JSON text.
pub(super) fn encode(copied: &Copied<'_>, settings: &CaptureSettings) -> Vec<u8> {
    let redactor = settings.redactor.as_ref();
    let target =
        redactor.map_or(Cow::Borrowed(copied.target), |redactor| redactor.target(copied.target));
    let request = Shown::of(copied.request, settings);
    let answer = copied.answer.map(|answer| (answer, Shown::of(answer.side, settings)));
    let request_headers = request.headers();
    let answer_headers = answer.as_ref().map(|(_, shown)| shown.headers()).unwrap_or_default();
    let (body, notes) = request.body();
    let captured_answer = answer.as_ref().map(|(answer, shown)| {
        let (body, notes) = shown.body();
        let captured = CapturedAnswer {
            status: answer.status.as_u16(),
            headers: pairs(&answer_headers),
            body,
            notes,
            is_generated: answer.is_generated,
        };
        (captured, Timings { head_us: answer.head_us, total_us: copied.total_us })
    });
    let captured = CapturedRequest {
        id: Uuid::now_v7(),
        captured_at_us: copied.captured_at_us,
        ip: copied.peer,
        method: copied.method.as_str(),
        target: &target,
        headers: pairs(&request_headers),
        body,
    };
    encode_exchange(captured, notes, captured_answer)
}

/// One direction as it is written.
struct Shown<'a> {
    side: Side<'a>,
    redactor: Option<&'a Redactor>,
    body: Redacted<'a>,
}

impl<'a> Shown<'a> {
    fn of(side: Side<'a>, settings: &'a CaptureSettings) -> Self {
        let redactor = settings.redactor.as_ref();
        let is_cut = !side.is_complete || side.seen > side.body.len() as u64;
        let max_bytes = settings.max_body_bytes;
        let body = match redactor {
            None => {
                let bytes = truncate(side.body, max_bytes);
                let is_cut = is_cut || bytes.len() < side.body.len();
                Redacted::Body { bytes: Cow::Borrowed(bytes), is_cut, decoded_from: None }
            }
            Some(redactor) => {
                let content_type = side.headers.value(&CONTENT_TYPE);
                let content_encoding = side.headers.value(&CONTENT_ENCODING);
                let form = BodyForm {
                    content_type: &content_type,
                    content_encoding: &content_encoding,
                    is_cut,
                    max_bytes,
                };
                redactor.body(side.body, form)
            }
        };
        Self { side, redactor, body }
    }

    fn body(&self) -> (&[u8], BodyNotes<'static>) {
        written(&self.body, self.side.seen)
    }

    fn headers(&self) -> Vec<(&str, Cow<'_, [u8]>)> {
        // Of a body that was decoded the coding would be wrong.
        let is_decoded = matches!(self.body, Redacted::Body { decoded_from: Some(_), .. });
        let kept =
            self.side.headers.iter().filter(|(name, _)| !(is_decoded && CONTENT_ENCODING == *name));
        let masked = kept.map(|(name, value)| {
            (
                name,
                self.redactor.map_or(Cow::Borrowed(value), |redactor| redactor.header(name, value)),
            )
        });
        masked.collect()
    }
}

fn pairs<'a>(headers: &'a [(&'a str, Cow<'a, [u8]>)]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    headers.iter().map(|(name, value)| (*name, &**value))
}
