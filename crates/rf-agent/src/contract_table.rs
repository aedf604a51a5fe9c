//! The tables of the contracts: which tests hold each kind of source or sink to its contract, or why there are none.
//!
//! A kind without an entry fails the test of its table, so that a new source or sink cannot be forgotten.

/// What holds a kind to its contract.
pub(crate) enum Contract {
    /// These tests, each of which runs the check.
    Tests(&'static [fn()]),
    /// Nothing, for this reason.
    Exempt(&'static str),
}

/// Fails where a kind has no entry in the table, or an entry has no test and no reason, or belongs to no kind.
pub(crate) fn check_table(kinds: &[&str], table: &[(&str, Contract)]) {
    for kind in kinds {
        let Some((_, contract)) = table.iter().find(|(name, _)| name == kind) else {
            panic!("`{kind}` is not in the table: add the tests that hold it to the contract");
        };
        let says_something = match contract {
            Contract::Tests(tests) => !tests.is_empty(),
            Contract::Exempt(reason) => !reason.trim().is_empty(),
        };
        assert!(says_something, "`{kind}` has neither a test nor a reason for having none");
    }
    for (name, _) in table {
        assert!(kinds.contains(name), "`{name}` is in the table, but there is no such kind");
    }
}

#[cfg(test)]
mod tests {
    use super::{Contract, check_table};

    fn some_test() {}

    const REASON: Contract = Contract::Exempt("it reads nothing");
    const TESTS: Contract = Contract::Tests(&[some_test]);

    #[test]
    fn a_kind_has_tests_or_a_reason() {
        check_table(&["a", "b"], &[("b", TESTS), ("a", REASON)]);
    }

    #[test]
    #[should_panic(expected = "`b` is not in the table")]
    fn a_kind_that_was_forgotten_is_found() {
        check_table(&["a", "b"], &[("a", TESTS)]);
    }

    #[test]
    #[should_panic(expected = "`a` has neither")]
    fn an_entry_without_a_test_is_found() {
        check_table(&["a"], &[("a", Contract::Tests(&[]))]);
    }

    #[test]
    #[should_panic(expected = "`a` has neither")]
    fn an_exemption_without_a_reason_is_found() {
        check_table(&["a"], &[("a", Contract::Exempt(" "))]);
    }

    #[test]
    #[should_panic(expected = "there is no such kind")]
    fn an_entry_that_is_left_over_is_found() {
        check_table(&["a"], &[("a", TESTS), ("b", TESTS)]);
    }
}
