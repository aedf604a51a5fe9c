//! HTTP/1.1 messages exactly as they came: no name is put in lower case, no order changed, no path mended.

use std::io::{self, BufRead, Read};

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    /// The first line, without its line break.
    pub(crate) start: String,
    /// In the order of the wire.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Without the framing of chunks.
    pub(crate) body: Vec<u8>,
}

/// What decides whether there is a body where no header does.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Request,
    Answer,
    /// Of a HEAD request: never a body.
    AnswerToHead,
}

impl Message {
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target as it stands in the request line.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// All values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_slice()).collect()
    }

    /// The first value of a header as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.values(name).first().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The head, as far as `reader` has one; `None` when it ends before the first byte.
    pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Message>> {
        let Some(start) = read_line(reader)? else { return Ok(None) };
        let start = String::from_utf8(start).map_err(|error| bad(&error.to_string()))?;
        let mut message = Message { start, ..Message::default() };
        loop {
            let line = read_line(reader)?.ok_or_else(|| bad("the head breaks off"))?;
            if line.is_empty() {
                return Ok(Some(message));
            }
            let colon = line
                .iter()
                .position(|byte| *byte == b':')
                .ok_or_else(|| bad("a header without a colon"))?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            message.headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    pub(crate) fn read_body(&mut self, reader: &mut impl BufRead, kind: Kind) -> io::Result<()> {
        let status = self.status();
        if kind == Kind::AnswerToHead
            || (kind == Kind::Answer && (status < 200 || status == 204 || status == 304))
        {
            return Ok(());
        }
        if self
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            return self.read_chunks(reader);
        }
        match self.header("content-length") {
            Some(length) => {
                let length = length.parse().map_err(|_no_number| bad("a bad Content-Length"))?;
                self.body = vec![0; length];
                reader.read_exact(&mut self.body)
            }
            None if kind == Kind::Answer => reader.read_to_end(&mut self.body).map(drop),
            None => Ok(()),
        }
    }

    fn read_chunks(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        loop {
            let line = read_line(reader)?.ok_or_else(|| bad("the chunks break off"))?;
            let size = String::from_utf8_lossy(&line).into_owned();
            let size =
                usize::from_str_radix(size.trim(), 16).map_err(|_no_number| bad("a bad chunk"))?;
            let start = self.body.len();
            self.body.resize(start + size, 0);
            reader.read_exact(&mut self.body[start..])?;
            if !read_line(reader)?.is_some_and(|line| line.is_empty()) {
                return Err(bad("a chunk without its end"));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// A line without its break; `None` at the end.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') || line.pop() != Some(b'\r') {
        return Err(bad("a line without its break"));
    }
    Ok(Some(line))
}

const MAX_LINE_BYTES: u64 = 1024 * 1024;

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A request's bytes; `Content-Length` is added when there is a body and no header frames it.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    let mut line =
        |name: &str, value: &[u8]| bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if !has("host") {
        line("Host", b"localhost");
    }
    for (name, value) in headers {
        line(name, value);
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        line("Content-Length", body.len().to_string().as_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}
