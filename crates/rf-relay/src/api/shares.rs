//! Memory that all clients share, of which one token has no more than its part: who holds on to it, as by sending bodies that
//! do not end, holds up nobody with another token.

use std::collections::HashMap;

use rf_net::memory::BodyMemory;

use crate::auth::{TokenId, Tokens};
use crate::bucket::BucketName;

/// The memory, by bucket; buckets with the same token have the same.
pub(crate) struct Shares(HashMap<BucketName, BodyMemory>);

impl Shares {
    /// Memory of `bytes`, or of what the `largest` takes and leaves to other tokens, where that is more.
    pub(crate) fn new(tokens: &Tokens, bytes: usize, largest: usize) -> Self {
        let mut all = bytes.max(largest);
        if tokens.share_of(all) < largest {
            all = largest.saturating_mul(2);
        }
        let whole = BodyMemory::new(all, largest);
        let mut parts: HashMap<TokenId, BodyMemory> = HashMap::new();
        let part = |(name, token): (&BucketName, TokenId)| {
            let part = parts.entry(token);
            let part = part.or_insert_with(|| whole.part(tokens.share_of(all), largest));
            (name.clone(), part.clone())
        };
        Self(tokens.ids().map(part).collect())
    }

    /// What the token of this bucket may use.
    pub(super) fn of(&self, bucket: &BucketName) -> &BodyMemory {
        self.0.get(bucket).expect("only buckets of the configuration are asked for")
    }
}

#[cfg(test)]
mod tests {
    use rf_core::config::Secret;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn check(secrets: [&str; 3], bytes: usize, expected: [usize; 3]) {
        let names = ["a", "b", "c"].map(|name| BucketName::new(name).unwrap());
        let tokens = Tokens::new(names.iter().zip(&secrets.map(Secret::new)));
        let shares = Shares::new(&tokens, bytes, MIB);
        let mut held = Vec::new();
        let mut take_all = |name: &BucketName| {
            let before = held.len();
            loop {
                let mut body = shares.of(name).begin();
                if !body.grow_to(MIB) {
                    return held.len() - before;
                }
                held.push(body);
            }
        };
        assert_eq!([0, 1, 2].map(|index| take_all(&names[index])), expected, "{secrets:?}");
    }

    #[test]
    fn one_token_leaves_half_to_others() {
        check(["one", "one", "two"], 8 * MIB, [4, 0, 4]);
        check(["one", "two", "three"], 8 * MIB, [4, 4, 0]);
        check(["one", "two", "two"], 0, [1, 1, 0]);
    }

    #[test]
    fn the_only_token_has_all() {
        check(["one", "one", "one"], 8 * MIB, [8, 0, 0]);
        check(["one", "one", "one"], 0, [1, 0, 0]);
    }
}
