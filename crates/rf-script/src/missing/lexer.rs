//! The words of a Lua script, without comments.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Also a keyword.
    Name,
    /// A string; what it says is left out.
    Text,
    /// A number or a symbol.
    Other,
}

/// A word and its line, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
    pub(super) line: usize,
}

/// Symbols of more than one character, of those with the same beginning the longest first.
const SYMBOLS: [&[u8]; 10] =
    [b"...", b"..", b"::", b"==", b"~=", b"<=", b">=", b"//", b"<<", b">>"];

/// All words. The script is one that Lua has read: of a wrong one it gives any words.
pub(super) fn read(text: &[u8]) -> Vec<Word<'_>> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut words = Vec::new();
    while let Some(word) = reader.take_word() {
        words.push(word);
    }
    words
}

struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Reader<'a> {
    fn take_word(&mut self) -> Option<Word<'a>> {
        self.skip_blanks_and_comments();
        let line = self.line;
        let first = *self.rest.first()?;
        let (kind, text) = if let Some(length) = long_bracket(self.rest) {
            self.take(length);
            (Kind::Text, &b""[..])
        } else if matches!(first, b'"' | b'\'') {
            let length = quoted(self.rest);
            self.take(length);
            (Kind::Text, &b""[..])
        } else if first.is_ascii_alphabetic() || first == b'_' {
            (Kind::Name, self.take(name(self.rest)))
        } else if first.is_ascii_digit() {
            (Kind::Other, self.take(number(self.rest)))
        } else {
            let long = SYMBOLS.into_iter().find(|symbol| self.rest.starts_with(symbol));
            (Kind::Other, self.take(long.map_or(1, <[u8]>::len)))
        };
        Some(Word { kind, text, line })
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let blanks = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.take(blanks);
            let Some(comment) = self.rest.strip_prefix(b"--") else { return };
            let to_line_end = || comment.iter().take_while(|&&byte| byte != b'\n').count();
            let length = long_bracket(comment).unwrap_or_else(to_line_end);
            self.take(length + 2);
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += taken.iter().filter(|&&byte| byte == b'\n').count();
        self.rest = rest;
        taken
    }
}

/// How long a text in long brackets is, `[[..]]` or `[==[..]==]`; to the end where it has none.
fn long_bracket(text: &[u8]) -> Option<usize> {
    let level = text.strip_prefix(b"[")?.iter().take_while(|&&byte| byte == b'=').count();
    if text.get(level + 1) != Some(&b'[') {
        return None;
    }
    let close = [&b"]"[..], &vec![b'='; level], b"]"].concat();
    let inside = text.get(level + 2..)?;
    let end = memchr::memmem::find(inside, &close);
    Some(end.map_or(text.len(), |end| level + 2 + end + close.len()))
}

/// How long a text in quotation marks is, with them.
fn quoted(text: &[u8]) -> usize {
    let mut bytes = text.iter().enumerate();
    let quote = bytes.next().map(|(_, quote)| quote);
    while let Some((at, byte)) = bytes.next() {
        if Some(byte) == quote {
            return at + 1;
        }
        if *byte == b'\\' {
            bytes.next();
        }
    }
    text.len()
}

fn name(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// With its exponent, of which a sign may be a part.
fn number(text: &[u8]) -> usize {
    let hexadecimal = text.starts_with(b"0x") || text.starts_with(b"0X");
    let exponent = if hexadecimal { [b'p', b'P'] } else { [b'e', b'E'] };
    let mut before = 0;
    let part = |byte: &&u8| {
        let sign = matches!(**byte, b'+' | b'-') && exponent.contains(&before);
        before = **byte;
        sign || byte.is_ascii_alphanumeric() || **byte == b'.'
    };
    text.iter().take_while(part).count()
}
