//! The replacement of `regex_replace`, read once for all matches.
//!
//! Our own instead of the regex crate's, because that one can neither be bounded nor tells of a group that is not there.

use regex::bytes::{Captures, Regex};

/// Literal bytes and groups in turn.
#[derive(Debug)]
pub(super) struct Replacement<'a>(Vec<Piece<'a>>);

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a [u8]),
    Group(usize),
}

impl<'a> Replacement<'a> {
    /// Reads `$1`, `$name`, `${1}`, `${name}` and `$$`; any other dollar sign stands for itself.
    ///
    /// # Errors
    /// Where a group is named that the pattern does not have.
    pub(super) fn parse(text: &'a [u8], regex: &Regex) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = memchr::memchr(b'$', rest).unwrap_or(rest.len());
            let (before, dollar) = rest.split_at(literal);
            if !before.is_empty() {
                pieces.push(Piece::Literal(before));
            }
            rest = match dollar {
                [] => dollar,
                [b'$', b'$', behind @ ..] => {
                    pieces.push(Piece::Literal(b"$"));
                    behind
                }
                [_, behind @ ..] => match split_name(behind) {
                    Some((name, behind)) => {
                        pieces.push(Piece::Group(group(name, regex)?));
                        behind
                    }
                    None => {
                        pieces.push(Piece::Literal(b"$"));
                        behind
                    }
                },
            };
        }
        Ok(Self(pieces))
    }

    /// Gives the pieces of one match to `append`, until that has enough.
    pub(super) fn expand<E>(
        &self,
        captures: &Captures<'_>,
        mut append: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => append(text),
            Piece::Group(index) => {
                append(captures.get(*index).map_or(b"", |group| group.as_bytes()))
            }
        })
    }
}

/// What follows a dollar sign: the name of a group, and what is behind it.
fn split_name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if let [b'{', braced @ ..] = text {
        let end = memchr::memchr(b'}', braced)?;
        return Some((braced.get(..end)?, braced.get(end + 1..)?));
    }
    let end = text.iter().position(|byte| !is_name(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn group(name: &[u8], regex: &Regex) -> Result<usize, String> {
    let name = String::from_utf8_lossy(name);
    let index = match name.parse::<usize>() {
        Ok(number) => (number < regex.captures_len()).then_some(number),
        Err(_) => regex.capture_names().position(|known| known == Some(&*name)),
    };
    index.ok_or_else(|| {
        format!("the replacement names the group `{name}`, which the pattern does not have")
    })
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::Replacement;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let regex = Regex::new("(?P<first>a)(b)").expect("a pattern");
        let captures = regex.captures(b"ab").expect("a match");
        let expanded = Replacement::parse(text.as_bytes(), &regex).map(|replacement| {
            let mut expanded = Vec::new();
            let done: Result<(), ()> = replacement.expand(&captures, |piece| {
                expanded.extend_from_slice(piece);
                Ok(())
            });
            done.expect("expanded");
            String::from_utf8(expanded).expect("a text")
        });
        let unknown = |name: &str| {
            format!("the replacement names the group `{name}`, which the pattern does not have")
        };
        assert_eq!(expanded, expected.map(str::to_owned).map_err(unknown), "{text}");
    }

    #[test]
    fn dollar_signs_are_read() {
        check("", Ok(""));
        check("x", Ok("x"));
        check("$0-$1-$2", Ok("ab-a-b"));
        check("${1}0$first ${first}", Ok("a0a a"));
        check("$$1$ $", Ok("$1$ $"));
        check("${1", Ok("${1"));
        check("$3", Err("3"));
        check("$10", Err("10"));
        check("${}", Err(""));
        check("$firstx", Err("firstx"));
    }
}
