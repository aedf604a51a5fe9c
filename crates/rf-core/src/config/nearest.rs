//! The known name that a user most likely meant.

/// Names less alike than this are not worth a guess (Jaro-Winkler, 0 to 1).
const MIN_LIKENESS: f64 = 0.8;

/// The candidate most like the word, without regard to case; `None` when none is like it.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase();
    let rated = candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &name.to_lowercase()), name));
    let best = rated.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.filter(|(likeness, _)| *likeness >= MIN_LIKENESS).map(|(_, name)| name)
}

/// What is to be said behind a word that is not known: the one that was most likely meant, if there is one.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    let meant = nearest(word, candidates);
    meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_does_not_guess() {
        let names = [
            "targetSink",
            "transformScript",
            "listenPort",
            "id",
            "type",
            "url",
            "buckets",
            "config",
        ];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(nearest(word, names), expected, "{word}");
        };
        check("targetSnk", Some("targetSink"));
        check("sinkTarget", None);
        check("transfromscript", Some("transformScript"));
        check("ListenPrt", Some("listenPort"));
        check("tpye", Some("type"));
        check("bucket", Some("buckets"));
        check("colour", None);
        check("", None);
        check("x", None);
        assert_eq!(nearest("x", []), None);
    }
}
