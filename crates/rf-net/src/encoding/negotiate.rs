//! Who accepts what (RFC 9110, section 12.5.3).

use http::{HeaderMap, header};

use super::Coding;

/// A weight in thousandths: RFC 9110 allows three digits after the point.
type Weight = u16;

const FULL_WEIGHT: Weight = 1000;

/// The best of `offered` for the peer whose `Accept-Encoding` is in `headers`: the one with the highest weight, the
/// earlier one of equals. [`Coding::Identity`] when the peer accepts none of them or says nothing: a message is never
/// coded for a peer that did not ask.
pub fn negotiate(headers: &HeaderMap, offered: &[Coding]) -> Coding {
    let mut best = (Coding::Identity, 0);
    for &coding in offered {
        let weight = weight_of(coding, headers);
        if weight > best.1 {
            best = (coding, weight);
        }
    }
    best.0
}

/// The weight of a coding: that of its own name, else that of `*`, else none.
fn weight_of(coding: Coding, headers: &HeaderMap) -> Weight {
    let mut any = 0;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let name = name.trim();
            if name == "*" {
                any = weight(parameters);
            } else if !name.is_empty() && Coding::named(name) == Some(coding) {
                return weight(parameters);
            }
        }
    }
    any
}

/// `q=0.5` -> 500; nothing -> 1000; what cannot be read -> 0, since a wrong "yes" breaks the message and a wrong "no"
/// only makes it longer.
fn weight(parameters: &str) -> Weight {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return FULL_WEIGHT;
    }
    let Some((name, value)) = parameters.split_once('=') else { return 0 };
    if !name.trim().eq_ignore_ascii_case("q") {
        return 0;
    }
    thousandths(value.trim()).unwrap_or(0)
}

fn thousandths(text: &str) -> Option<Weight> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: Weight = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(FULL_WEIGHT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&'static str], expected: Coding) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(negotiate(&headers, &[Coding::Zstd, Coding::Gzip]), expected, "{values:?}");
    }

    #[test]
    fn the_best_that_is_accepted() {
        check(&[], Coding::Identity);
        check(&[""], Coding::Identity);
        check(&["br, deflate"], Coding::Identity);
        check(&["gzip"], Coding::Gzip);
        check(&["gzip, zstd"], Coding::Zstd);
        check(&["gzip", "zstd"], Coding::Zstd);
        check(&["GZIP;q=1.0, zstd;q=0.9"], Coding::Gzip);
        check(&["zstd ; q=0.5 , gzip ; Q=0.501"], Coding::Gzip);
        check(&["zstd;q=0, gzip;q=0.001"], Coding::Gzip);
        check(&["zstd;q=0"], Coding::Identity);
        check(&["*"], Coding::Zstd);
        check(&["*, zstd;q=0"], Coding::Gzip);
        check(&["*;q=0, gzip"], Coding::Gzip);
    }

    #[test]
    fn what_cannot_be_read_is_not_accepted() {
        check(&["zstd;q=2"], Coding::Identity);
        check(&["zstd;q=1.001"], Coding::Identity);
        check(&["zstd;q=0.1234"], Coding::Identity);
        check(&["zstd;q=-1"], Coding::Identity);
        check(&["zstd;level=3"], Coding::Identity);
        check(&["zstd;q"], Coding::Identity);
        check(&[";q=1"], Coding::Identity);
    }
}
