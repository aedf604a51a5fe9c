//! Blocks of code in the manual's pages.

/// The text of every block with this mark.
pub(crate) fn blocks(page: &str, mark: &str) -> Vec<String> {
    let inside = page.split("```").skip(1).step_by(2);
    inside
        .filter_map(|block| Some(block.strip_prefix(mark)?.strip_prefix('\n')?.to_owned()))
        .collect()
}
