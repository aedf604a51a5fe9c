//! Where in a text something stands.

/// A line and a column, both from 1; columns count characters, as editors show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Position = Position { line: 1, column: 1 };
}

/// Turns byte offsets into positions.
///
/// It walks on from the last offset: asked in rising order, a whole file costs one pass, also when the file is a
/// single line of megabytes.
pub(super) struct Cursor<'t> {
    text: &'t str,
    offset: usize,
    at: Position,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Cursor<'t> {
        Cursor { text, offset: 0, at: Position::START }
    }

    pub(super) fn seek(&mut self, offset: usize) -> Position {
        if offset < self.offset {
            *self = Cursor::new(self.text);
        }
        for c in self.text.get(self.offset..offset).unwrap_or_default().chars() {
            match c {
                '\n' => self.at = Position { line: self.at.line + 1, column: 1 },
                _ => self.at.column += 1,
            }
        }
        self.offset = offset;
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Position};

    #[test]
    fn counts_characters_and_may_go_back() {
        let mut cursor = Cursor::new("aé\nü€x");
        for (offset, line, column) in
            [(0, 1, 1), (3, 1, 3), (4, 2, 1), (9, 2, 3), (10, 2, 4), (1, 1, 2)]
        {
            assert_eq!(cursor.seek(offset), Position { line, column }, "offset {offset}");
        }
    }
}
