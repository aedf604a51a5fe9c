//! Names with `*`.

/// Whether `pattern`, in which `*` stands for any text, is the whole of `name`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Leftmost first leaves the most for those behind.
    for part in middle.split('*') {
        let Some(at) = name.find(part) else { return false };
        name = name.get(at + part.len()..).unwrap_or_default();
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("load_1", "load_1", true),
            ("load_1", "load_15", false),
            ("*", "", true),
            ("disk_*", "disk_total", true),
            ("disk_*", "diskio_sda_reads", false),
            ("network_*_sent", "network_eth0_bytes_sent", true),
            ("network_*_sent", "network_sent", false),
            ("*_sent", "network_lo_bytes_sent", true),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("*lo*s*", "network_lo_packets_sent", true),
            ("**", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
