//! What a script names of Lua's library although it is not there: until a call comes to it, nothing else would tell.
//!
//! A look at the words, not at what they mean. Comments and texts are passed over; so is what the script has made itself
//! (`local io = ..`, a parameter), has as a field of its own (`mytable.io`), or asks for first (`if io then`). In doubt
//! nothing is said: a warning that is none teaches to pass over the others.

mod lexer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use lexer::{Kind, Word};

use crate::vm::lua_text;

/// What `unsafeScripts` gives; of `io` all of it.
const UNSAFE: [&str; 7] =
    ["io", "dofile", "loadfile", "os.execute", "os.remove", "os.rename", "os.tmpname"];
/// What no script has.
const NEVER: [&str; 10] = [
    "os.exit",
    "os.setlocale",
    "string.dump",
    "package.config",
    "package.cpath",
    "package.loadlib",
    "package.path",
    "package.preload",
    "package.searchers",
    "package.searchpath",
];

/// Something of Lua's library that a script names, and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingName {
    /// Where it stands first, from 1.
    pub line: usize,
    /// As the script names it: `io.open`.
    pub name: String,
    /// Whether it would be there with [`crate::ScriptOptions::unsafe_scripts`].
    pub is_unsafe: bool,
}

/// What the script names that is not there, each name once, in the order of the text.
pub fn missing_names(text: &[u8], unsafe_scripts: bool) -> Vec<MissingName> {
    let reading = Reading::of(lua_text(text));
    let mut told = BTreeSet::new();
    let mut missing = Vec::new();
    for used in &reading.uses {
        let is_unsafe = UNSAFE.contains(&used.watched);
        if (is_unsafe && unsafe_scripts) || reading.excuses(used) || !told.insert(&used.name) {
            continue;
        }
        missing.push(MissingName { line: used.line, name: used.name.clone(), is_unsafe });
    }
    missing
}

/// A place where a name that is watched is used.
struct Use {
    at: usize,
    line: usize,
    name: String,
    /// The entry of the lists.
    watched: &'static str,
}

/// A script, as far as its words tell.
struct Reading<'a> {
    words: Vec<Word<'a>>,
    /// Brackets that are open.
    open: Vec<u8>,
    /// Names that the script has made, and from which word on.
    made: BTreeMap<Vec<u8>, usize>,
    /// Entries of the lists that the script looks for before it uses them.
    asked: BTreeSet<&'static str>,
    uses: Vec<Use>,
}

impl<'a> Reading<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut reading = Self {
            words: lexer::read(text),
            open: Vec::new(),
            made: BTreeMap::new(),
            asked: BTreeSet::new(),
            uses: Vec::new(),
        };
        let mut at = 0;
        while at < reading.words.len() {
            at = reading.step(at);
        }
        reading
    }

    /// Whether the script means something of its own by the name, or knows that it may be missing.
    fn excuses(&self, used: &Use) -> bool {
        let made = |name: &str| self.made.get(name.as_bytes()).is_some_and(|from| *from <= used.at);
        let table = used.watched.split('.').next().unwrap_or_default();
        made(used.watched) || made(table) || self.asked.contains(used.watched)
    }

    /// Takes in what begins with a word; the word to go on with.
    fn step(&mut self, at: usize) -> usize {
        match self.word(at) {
            b"local" => return self.local(at + 1),
            b"for" => {
                let (names, behind) = self.names(at + 1);
                self.make(&names, behind);
                return behind;
            }
            b"function" => return self.function(at + 1),
            [bracket @ (b'{' | b'(' | b'[')] => self.open.push(*bracket),
            b"}" | b")" | b"]" => {
                self.open.pop();
            }
            _ if self.is_name(at) => self.mention(at),
            _ => {}
        }
        at + 1
    }

    /// What `local` makes. `local io = io` makes nothing that was not there.
    fn local(&mut self, at: usize) -> usize {
        if self.word(at) == b"function" {
            return at;
        }
        let (names, mut next) = self.names(at);
        if self.word(next) != b"=" {
            self.make(&names, next);
            return next;
        }
        next += 1;
        let mut values = Vec::new();
        let from = loop {
            if !self.is_name(next) || self.goes_on(next + 1) {
                // More than a name: its first word is still read by what was known before.
                break next + 1;
            }
            self.mention(next);
            values.push(self.word(next));
            next += 1;
            if self.word(next) != b"," {
                break next;
            }
            next += 1;
        };
        let own: Vec<&[u8]> = names
            .iter()
            .enumerate()
            .filter(|(index, name)| values.get(*index) != Some(*name))
            .map(|(_, name)| *name)
            .collect();
        self.make(&own, from);
        next
    }

    /// The name of a function, as `dofile` or `os.exit`, and its parameters.
    fn function(&mut self, at: usize) -> usize {
        let words = self.words.iter().skip(at);
        let list = at + words.take_while(|word| word.text != b"(").count();
        if list == at + 1 {
            self.make(&[self.word(at)], at);
        } else if list == at + 3 {
            let name = [self.word(at), b".", self.word(at + 2)].concat();
            self.make(&[name.as_slice()], at);
        }
        self.open.push(b'(');
        let (names, behind) = self.names(list + 1);
        self.make(&names, list);
        behind
    }

    /// A list of names, and the word behind it.
    fn names(&self, mut at: usize) -> (Vec<&'a [u8]>, usize) {
        let mut names = Vec::new();
        while self.is_name(at) {
            names.push(self.word(at));
            at += 1;
            // `<const>`
            if self.word(at) == b"<" {
                at += 3;
            }
            if self.word(at) != b"," {
                break;
            }
            at += 1;
        }
        (names, at)
    }

    fn make(&mut self, names: &[&[u8]], from: usize) {
        for name in names {
            self.made.entry(name.to_vec()).or_insert(from);
        }
    }

    /// A name that stands by itself, not behind a dot or a colon.
    fn mention(&mut self, at: usize) {
        let before = at.checked_sub(1).map_or(&b""[..], |before| self.word(before));
        if matches!(before, b"." | b":" | b"::" | b"goto") {
            return;
        }
        let table = self.word(at);
        if self.word(at + 1) == b"=" {
            let is_key = self.open.last() == Some(&b'{') && matches!(before, b"{" | b"," | b";");
            if !is_key {
                self.make(&[table], at);
            }
            return;
        }
        let field = (self.word(at + 1) == b".").then(|| self.word(at + 2));
        let Some(watched) = watched(table, field) else { return };
        let behind = at + if field.is_some() { 3 } else { 1 };
        let after = self.word(behind);
        let of_field = watched.contains('.');
        if of_field && after == b"=" {
            // What stands to the right of it is read before. Only the first time: the rest of a line may be the whole script.
            let line = self.words[at].line;
            self.made.entry(watched.into()).or_insert_with(|| {
                let rest = self.words.iter().skip(behind);
                behind + rest.take_while(|word| word.line == line).count()
            });
            return;
        }
        let is_asked = matches!(after, b"then" | b"and" | b"or" | b"==" | b"~=")
            || before == b"not"
            || (before == b"(" && at > 1 && self.word(at - 2) == b"type");
        // To look for `io.open` takes `io`.
        if is_asked && (of_field || field.is_none()) {
            self.asked.insert(watched);
            return;
        }
        let field = field.map(|field| format!(".{}", String::from_utf8_lossy(field)));
        let name = String::from_utf8_lossy(table).into_owned() + &field.unwrap_or_default();
        self.uses.push(Use { at, line: self.words[at].line, name, watched });
    }

    /// Whether the word makes more of the name before it.
    fn goes_on(&self, at: usize) -> bool {
        let is_text = self.words.get(at).is_some_and(|word| word.kind == Kind::Text);
        is_text || matches!(self.word(at), b"." | b":" | b"[" | b"(" | b"{")
    }

    fn is_name(&self, at: usize) -> bool {
        self.words.get(at).is_some_and(|word| word.kind == Kind::Name)
    }

    /// Nothing behind the end, and of a text.
    fn word(&self, at: usize) -> &'a [u8] {
        self.words.get(at).map_or(&b""[..], |word| word.text)
    }
}

/// The entry of the lists that a name, or a field of it, stands for.
fn watched(table: &[u8], field: Option<&[u8]>) -> Option<&'static str> {
    let is_meant = |entry: &&'static str| match entry.split_once('.') {
        None => entry.as_bytes() == table,
        Some((of, name)) => of.as_bytes() == table && field == Some(name.as_bytes()),
    };
    UNSAFE.into_iter().chain(NEVER).find(is_meant)
}
