//! What differs between two texts, by the line.

/// Unchanged lines that are shown around a change.
const CONTEXT: usize = 3;
/// Pairs of lines that are compared at the most; beyond, all old lines are told before all new ones.
const MAX_PAIRS: usize = 4_000_000;
/// Lines that are shown.
const MAX_LINES: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Expected(&'a str),
    Got(&'a str),
}

/// Lines with `- ` (expected), `+ ` (got) or two blanks (both) before them.
pub(super) fn diff(expected: &[String], got: &[String]) -> String {
    let same = |pair: &(&String, &String)| pair.0 == pair.1;
    let before = expected.iter().zip(got).take_while(same).count();
    let (expected_rest, got_rest) = (&expected[before..], &got[before..]);
    let backwards = expected_rest.iter().rev().zip(got_rest.iter().rev());
    let after = backwards.take_while(same).count();
    let old = &expected_rest[..expected_rest.len() - after];
    let new = &got_rest[..got_rest.len() - after];
    let mut lines: Vec<Line<'_>> = Vec::with_capacity(expected.len() + new.len());
    lines.extend(expected.iter().take(before).map(|line| Line::Both(line)));
    if old.len().saturating_mul(new.len()) > MAX_PAIRS {
        lines.extend(old.iter().map(|line| Line::Expected(line)));
        lines.extend(new.iter().map(|line| Line::Got(line)));
    } else {
        middle(old, new, &mut lines);
    }
    lines.extend(expected.iter().skip(expected.len() - after).map(|line| Line::Both(line)));
    written(&lines)
}

/// By the longest common subsequence.
fn middle<'a>(old: &'a [String], new: &'a [String], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for row in (0..old.len()).rev() {
        for column in (0..new.len()).rev() {
            let at = row * width + column;
            longest[at] = if old[row] == new[column] {
                longest[at + width + 1] + 1
            } else {
                longest[at + width].max(longest[at + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < old.len() && column < new.len() {
        let at = row * width + column;
        if old[row] == new[column] {
            lines.push(Line::Both(&old[row]));
            (row, column) = (row + 1, column + 1);
        } else if longest[at + width] >= longest[at + 1] {
            lines.push(Line::Expected(&old[row]));
            row += 1;
        } else {
            lines.push(Line::Got(&new[column]));
            column += 1;
        }
    }
    lines.extend(old.iter().skip(row).map(|line| Line::Expected(line)));
    lines.extend(new.iter().skip(column).map(|line| Line::Got(line)));
}

fn written(lines: &[Line<'_>]) -> String {
    let mut shown = Vec::new();
    let mut start = 0;
    while start < lines.len() {
        let run = lines.iter().skip(start);
        let equal = run.take_while(|line| matches!(line, Line::Both(_))).count();
        let at_end = start + equal == lines.len();
        let head = if start == 0 { 0 } else { CONTEXT };
        let tail = if at_end { 0 } else { CONTEXT };
        if equal > head + tail + 1 {
            shown.extend(lines.iter().skip(start).take(head).map(one));
            shown.push(format!("  ... {} equal lines\n", equal - head - tail));
            shown.extend(lines.iter().skip(start + equal - tail).take(tail).map(one));
        } else {
            shown.extend(lines.iter().skip(start).take(equal).map(one));
        }
        start += equal;
        let changed = lines.iter().skip(start).take_while(|line| !matches!(line, Line::Both(_)));
        let before = shown.len();
        shown.extend(changed.map(one));
        start += shown.len() - before;
    }
    let hidden = shown.len().saturating_sub(MAX_LINES);
    shown.truncate(MAX_LINES);
    if hidden > 0 {
        shown.push(format!("  ... {hidden} more lines\n"));
    }
    shown.concat()
}

fn one(line: &Line<'_>) -> String {
    match line {
        Line::Both(text) => format!("  {text}\n"),
        Line::Expected(text) => format!("- {text}\n"),
        Line::Got(text) => format!("+ {text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::diff;

    fn check(expected: &str, got: &str, shown: &str) {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let shown = shown.replace('|', "\n");
        assert_eq!(diff(&lines(expected), &lines(got)), shown, "{expected} / {got}");
    }

    #[test]
    fn only_what_differs_is_marked() {
        check("a b c", "a x c", "  a|- b|+ x|  c|");
        check("a b c d", "b c e d", "- a|  b|  c|+ e|  d|");
        check("a", "a b", "  a|+ b|");
        check("a b", "b", "- a|  b|");
        check("a a a", "a a", "  a|  a|- a|");
    }

    #[test]
    fn long_runs_of_equal_lines_are_left_out() {
        check("1 2 3 4 5 6 x", "1 2 3 4 5 6 y", "  ... 3 equal lines|  4|  5|  6|- x|+ y|");
        check("x 1 2 3 4 5 6", "y 1 2 3 4 5 6", "- x|+ y|  1|  2|  3|  ... 3 equal lines|");
        check("x 1 2 3 4 z", "y 1 2 3 4 w", "- x|+ y|  1|  2|  3|  4|- z|+ w|");
    }

    #[test]
    fn huge_texts_are_told_in_time_and_cut() {
        let lines = |letter: char| (0..5000).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
        let shown = diff(&lines('a'), &lines('b'));
        assert_eq!(shown.lines().count(), 201);
        assert!(shown.ends_with("  ... 9800 more lines\n"), "{shown}");
    }
}
