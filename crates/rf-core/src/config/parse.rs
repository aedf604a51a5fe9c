//! From a file to a [`Document`]: reads, parses, keeps the places, expands.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jsonc_parser::ast;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::tokens::Token;
use jsonc_parser::{CollectOptions, ParseOptions, Scanner, ScannerOptions, parse_to_ast};
use serde_json::Number;

use super::document::{Document, Slot, Step, Value};
use super::expand::{Environment, Expansion, expand};
use super::position::{Cursor, Position};
use super::problem::{Problems, Severity, file_error};

/// A configuration file may be this long.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// Lists and objects may be nested this deep.
pub const MAX_DEPTH: usize = 64;

/// Reads a file and makes a document of it.
///
/// `None` when there is no document to speak of; `problems` says why. A document may come with errors, too (a
/// `$file:` that cannot be read): the caller goes on decoding, so that all problems are told at once, and looks at
/// [`Problems::has_errors`] at the end.
pub fn load(path: &Path, env: &Environment<'_>, problems: &mut Problems) -> Option<Document> {
    let name = path.display().to_string();
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.push(file_error(&name, None, format!("cannot be read: {error}")));
            return None;
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text, env, problems),
        Err(error) => {
            let valid =
                String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
            let at = Cursor::new(&valid).seek(valid.len());
            problems.push(file_error(&name, Some(at), "not UTF-8 from here on"));
            None
        }
    }
}

/// Makes a document of a text, as [`load`] does; `name` is the file that problems name.
pub fn parse(
    name: &str,
    text: &str,
    env: &Environment<'_>,
    problems: &mut Problems,
) -> Option<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = match parse_tree(text) {
        Ok(value) => value,
        Err((at, message)) => {
            problems.push(file_error(name, at, message));
            return None;
        }
    };
    let mut builder = Builder::new(text);
    builder.add(0, Step::Root, &value);
    let Builder { slots, duplicates, unheld, .. } = builder;
    let mut document = Document::new(name.to_owned(), slots);
    for (slot, line) in duplicates {
        let message = format!("duplicate key, also on line {line}; the last one counts");
        problems.push(document.node(slot).key_problem(Severity::Warning, message));
    }
    for slot in unheld {
        problems.error(&document.node(slot), "the number is too large, or not finite");
    }
    expand_strings(&mut document, env, problems);
    Some(document)
}

/// Reads one byte more than is allowed at most, so that [`parse_tree`] sees that it is too many.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

type SyntaxError = (Option<Position>, String);

fn parse_tree(text: &str) -> Result<ast::Value<'_>, SyntaxError> {
    if text.len() > MAX_FILE_BYTES {
        return Err((None, format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    check_tokens(text)?;
    // A forgotten comma is more often a slip than meant: JSON5 does not allow it either.
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    let tree = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| syntax_error(text, &error))?;
    tree.value
        .ok_or_else(|| (Some(Position::START), "the file is empty, expected an object".to_owned()))
}

/// Refuses what the parser would take or tell badly: nesting that a recursive walk cannot afford, and a string whose
/// closing quote was forgotten, which would swallow the lines that follow.
fn check_tokens(text: &str) -> Result<(), SyntaxError> {
    let mut scanner = Scanner::new(text, &ScannerOptions::default());
    let mut depth = 0_usize;
    while let Some(token) = scanner.scan().map_err(|error| syntax_error(text, &error))? {
        let range = Range { start: scanner.token_start(), end: scanner.token_end() };
        match token {
            Token::OpenBrace | Token::OpenBracket => depth += 1,
            Token::CloseBrace | Token::CloseBracket => depth = depth.saturating_sub(1),
            Token::String(_) if spans_lines(range.text(text)) => {
                return Err((
                    place(text, range.start),
                    "the string that starts here is not closed on its line".into(),
                ));
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err((
                place(text, range.start),
                format!("nested deeper than {MAX_DEPTH} lists and objects"),
            ));
        }
    }
    Ok(())
}

/// Whether a string literal holds a line break other than behind a backslash, where JSON5 allows one.
fn spans_lines(literal: &str) -> bool {
    let mut chars = literal.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\r' => return true,
            '\\' if chars.next() == Some('\r') => {
                chars.next_if_eq(&'\n');
            }
            _ => {}
        }
    }
    false
}

fn syntax_error(text: &str, error: &ParseError) -> SyntaxError {
    let message = match error.kind() {
        ParseErrorKind::UnexpectedToken | ParseErrorKind::UnexpectedTokenInObject => {
            "unexpected character, expected JSON or JSON5".to_owned()
        }
        ParseErrorKind::UnexpectedWord => {
            "unexpected word, expected a value; a text needs quotes".to_owned()
        }
        ParseErrorKind::ExpectedComma => "expected a comma after this value".to_owned(),
        ParseErrorKind::ExpectedColonAfterObjectKey => "expected a colon after the key".to_owned(),
        ParseErrorKind::ExpectedObjectValue => "expected a value after the colon".to_owned(),
        ParseErrorKind::UnterminatedObject => {
            "the object that starts here is not closed".to_owned()
        }
        ParseErrorKind::UnterminatedArray => "the list that starts here is not closed".to_owned(),
        ParseErrorKind::MultipleRootJsonValues => {
            "expected the end of the file after the outermost value".to_owned()
        }
        other => lower_first(&other.to_string()),
    };
    (place(text, error.range().start), message)
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn place(text: &str, offset: usize) -> Option<Position> {
    Some(Cursor::new(text).seek(offset))
}

/// Walks the parser's tree in the order of the text and fills the slots.
///
/// What it finds wrong is told later, when the document, and with it the key path, is there.
struct Builder<'t> {
    text: &'t str,
    cursor: Cursor<'t>,
    slots: Vec<Slot>,
    /// Values whose key stands twice in its object, with the line where it stands before.
    duplicates: Vec<(usize, usize)>,
    /// Numbers that no number type holds.
    unheld: Vec<usize>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Builder<'t> {
        let cursor = Cursor::new(text);
        Builder { text, cursor, slots: Vec::new(), duplicates: Vec::new(), unheld: Vec::new() }
    }

    fn add(&mut self, parent: usize, step: Step, tree: &ast::Value<'_>) -> usize {
        let index = self.slots.len();
        let at = self.cursor.seek(tree.range().start);
        self.slots.push(Slot { parent, step, at, value: Value::Broken, expanded: false });
        let value = match tree {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
            ast::Value::NumberLit(literal) => self.number(index, literal.value),
            ast::Value::StringLit(literal) => Value::String(self.string(literal)),
            ast::Value::Array(list) => self.list(index, list),
            ast::Value::Object(object) => self.object(index, object),
        };
        self.slots[index].value = value;
        index
    }

    fn list(&mut self, index: usize, list: &ast::Array<'_>) -> Value {
        let add = |(i, element)| self.add(index, Step::Index(i), element);
        Value::List(list.elements.iter().enumerate().map(add).collect())
    }

    /// Of a key that stands there twice the last one counts, as it did for the original.
    fn object(&mut self, index: usize, object: &ast::Object<'_>) -> Value {
        let mut children = Vec::new();
        let mut places = HashMap::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let at = self.cursor.seek(property.name.range().start);
            let child = self.add(index, Step::Key { name: name.to_owned(), at }, &property.value);
            match places.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert((children.len(), at.line));
                    children.push(child);
                }
                Entry::Occupied(mut entry) => {
                    let (place, line) = entry.get_mut();
                    self.duplicates.push((child, *line));
                    children[*place] = child;
                    *line = at.line;
                }
            }
        }
        Value::Object(children)
    }

    fn number(&mut self, index: usize, text: &str) -> Value {
        if let Some(number) = number(text) {
            return Value::Number(number);
        }
        self.unheld.push(index);
        Value::Broken
    }

    /// The text of a literal, where `\$` in the file stays `\$` for the expansion to see.
    ///
    /// JSON has no such escape and JSON5 reads it as `$`; whoever writes it means a `$` that is left alone.
    fn string(&self, literal: &ast::StringLit<'_>) -> String {
        let source = literal.range.text(self.text);
        if source.contains("\\$") {
            let kept = keep_escaped_dollars(source);
            if let Ok(Some(Token::String(text))) =
                Scanner::new(&kept, &ScannerOptions::default()).scan()
            {
                return text.into_owned();
            }
        }
        literal.value.clone().into_owned()
    }
}

fn keep_escaped_dollars(literal: &str) -> String {
    let mut kept = String::with_capacity(literal.len() + 1);
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        kept.push(c);
        if c == '\\'
            && let Some(escaped) = chars.next()
        {
            if escaped == '$' {
                kept.push('\\');
            }
            kept.push(escaped);
        }
    }
    kept
}

/// Reads a JSON or JSON5 number; a JSON one exactly as `serde_json` does.
fn number(text: &str) -> Option<Number> {
    if let Ok(number) = serde_json::from_str(text) {
        return Some(number);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let value = u64::from_str_radix(hex, 16).ok()?;
        return serde_json::from_str(&format!("{sign}{value}")).ok();
    }
    let exponent_at = digits.find(['e', 'E']).unwrap_or(digits.len());
    let (mantissa, exponent) = digits.split_at(exponent_at);
    let Some((whole, fraction)) = mantissa.split_once('.') else {
        return serde_json::from_str(&format!("{sign}{digits}")).ok();
    };
    let or_zero = |part| if str::is_empty(part) { "0" } else { part };
    serde_json::from_str(&format!("{sign}{}.{}{exponent}", or_zero(whole), or_zero(fraction))).ok()
}

const ODD_BRACE: &str = "a `${` that names no variable stays as it is: write `\\${` if that is meant, else `${NAME}` or \
                         `${NAME:-default}`";

fn expand_strings(document: &mut Document, env: &Environment<'_>, problems: &mut Problems) {
    let mut told = Vec::new();
    for (index, slot) in document.slots_mut().iter_mut().enumerate() {
        let Value::String(text) = &slot.value else { continue };
        if !text.contains('$') {
            continue;
        }
        match expand(text, env) {
            Ok(Expansion { text, substituted, missing, is_odd }) => {
                slot.value = Value::String(text);
                slot.expanded = substituted;
                let odd = is_odd.then(|| ODD_BRACE.to_owned());
                let texts = missing.iter().map(|name| not_set(name)).chain(odd);
                told.extend(texts.map(|text| (index, Severity::Warning, text)));
            }
            Err(message) => {
                slot.value = Value::Broken;
                told.push((index, Severity::Error, message));
            }
        }
    }
    for (index, severity, message) in told {
        problems.push(document.node(index).problem(severity, message));
    }
}

fn not_set(name: &str) -> String {
    format!("the environment variable {name} is not set; an empty text is used")
}
