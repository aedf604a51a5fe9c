//! Coding and decoding of whole bodies.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use super::Coding;

/// Level 1 codes a batch at 1.3 GB/s; level 3 makes it no smaller.
const ZSTD_LEVEL: i32 = 1;

/// 8 MiB: RFC 9659 forbids larger windows in HTTP, and a decoder reserves what a frame asks for.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The first reservation where the size of the content is not known.
const FIRST_RESERVE_BYTES: usize = 64 * 1024;

/// Read at once where the size of the content does not matter.
const PIECE_BYTES: usize = 8 * 1024;

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Decoded it would be larger than allowed.
    #[error("the decoded body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is not what its `Content-Encoding` says, or it is cut short.
    #[error("the body is not valid {}: {source}", coding.name())]
    Broken {
        /// What it should have been.
        coding: Coding,
        /// What the decoder says.
        source: io::Error,
    },
}

/// Codes `data`. The result may be larger than the input when that is small or random.
pub fn encode(coding: Coding, data: &Bytes) -> Bytes {
    match coding {
        Coding::Identity => data.clone(),
        Coding::Gzip => {
            let mut coded = Vec::with_capacity(data.len() / 4);
            GzEncoder::new(&data[..], Compression::fast())
                .read_to_end(&mut coded)
                .expect("reading from and writing to memory cannot fail");
            coded.into()
        }
        Coding::Zstd => zstd::bulk::compress(data, ZSTD_LEVEL)
            .expect("the output buffer has the size that zstd asks for")
            .into(),
    }
}

/// Memory that decoding `data` up to `max_bytes` may take, from above.
#[must_use]
pub fn decoded_bytes(coding: Coding, data: &[u8], max_bytes: usize) -> usize {
    match coding {
        Coding::Identity => 0,
        Coding::Gzip => max_bytes,
        Coding::Zstd => only_claim(data).map_or(max_bytes, |bytes| bytes.min(max_bytes)),
    }
}

/// Decodes `data`, up to `max_bytes` of result.
///
/// # Errors
/// See [`DecodeError`]; it is found without ever holding more than the limit.
pub fn decode(coding: Coding, data: Bytes, max_bytes: usize) -> Result<Bytes, DecodeError> {
    match coding {
        Coding::Identity if data.len() > max_bytes => {
            Err(DecodeError::TooLarge { limit: max_bytes })
        }
        Coding::Identity => Ok(data),
        Coding::Gzip => {
            read_capped(coding, MultiGzDecoder::new(&data[..]), FIRST_RESERVE_BYTES, max_bytes)
        }
        Coding::Zstd => decode_zstd(&data, max_bytes),
    }
}

/// Decodes as much of `data` as there is, up to `max_bytes`: for bodies that may be cut. False when the end of the content
/// was not reached.
pub fn decode_prefix(coding: Coding, data: &[u8], max_bytes: usize) -> (Vec<u8>, bool) {
    match coding {
        Coding::Identity => (data[..data.len().min(max_bytes)].to_vec(), data.len() <= max_bytes),
        Coding::Gzip => read_prefix(MultiGzDecoder::new(data), max_bytes),
        Coding::Zstd => match zstd::stream::read::Decoder::with_buffer(data) {
            Ok(mut decoder) => match decoder.window_log_max(ZSTD_WINDOW_LOG_MAX) {
                Ok(()) => read_prefix(decoder, max_bytes),
                Err(_refused) => (Vec::new(), false),
            },
            Err(_no_memory) => (Vec::new(), false),
        },
    }
}

fn read_prefix(mut decoder: impl Read, max_bytes: usize) -> (Vec<u8>, bool) {
    let mut decoded = Vec::new();
    let mut piece = [0; PIECE_BYTES];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (decoded, true),
            Ok(read) => decoded.extend_from_slice(&piece[..read]),
            // Cut or broken: what came before it stands.
            Err(_broken) => return (decoded, false),
        }
        if decoded.len() > max_bytes {
            decoded.truncate(max_bytes);
            return (decoded, false);
        }
    }
}

/// What the first frame claims to hold: only a hint for the reservation, since it may lie, and other frames may follow.
fn claimed(data: &[u8]) -> Option<usize> {
    let claimed = get_frame_content_size(data).ok().flatten();
    claimed.and_then(|bytes| usize::try_from(bytes).ok())
}

/// What a frame claims that is the only one: it holds no more, or it is broken. Others that follow may hold anything.
fn only_claim(data: &[u8]) -> Option<usize> {
    let end = find_frame_compressed_size(data).ok()?;
    claimed(data).filter(|_| end == data.len())
}

fn decode_zstd(data: &[u8], max_bytes: usize) -> Result<Bytes, DecodeError> {
    let claimed = claimed(data);
    if claimed.is_some_and(|bytes| bytes > max_bytes) {
        return Err(DecodeError::TooLarge { limit: max_bytes });
    }
    // One that lies is known to be broken at its end only, and may not take more until then than was asked for it.
    let most = only_claim(data).unwrap_or(max_bytes);
    let broken = |source| DecodeError::Broken { coding: Coding::Zstd, source };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
    // One more than claimed, so that the last read, which finds the end, need not grow the buffer.
    read_capped(Coding::Zstd, decoder, claimed.map_or(FIRST_RESERVE_BYTES, |bytes| bytes + 1), most)
}

fn read_capped(
    coding: Coding,
    decoder: impl Read,
    reserve: usize,
    max_bytes: usize,
) -> Result<Bytes, DecodeError> {
    let mut decoded = Vec::with_capacity(reserve.min(max_bytes.saturating_add(1)));
    let one_too_many = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(one_too_many)
        .read_to_end(&mut decoded)
        .map_err(|source| DecodeError::Broken { coding, source })?;
    if decoded.len() > max_bytes {
        return Err(DecodeError::TooLarge { limit: max_bytes });
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_decoding_takes_is_known_before() {
        let check = |coding, data: &[u8], expected: usize| {
            assert_eq!(decoded_bytes(coding, data, 1000), expected, "{coding:?} {data:?}");
        };
        let zstd = |size: usize| encode(Coding::Zstd, &Bytes::from(vec![b'a'; size]));
        check(Coding::Identity, &[b'a'; 500], 0);
        check(Coding::Gzip, &encode(Coding::Gzip, &Bytes::from_static(b"a")), 1000);
        check(Coding::Zstd, &zstd(500), 500);
        check(Coding::Zstd, &zstd(5000), 1000);
        check(Coding::Zstd, &[zstd(10), zstd(900)].concat(), 1000);
        check(Coding::Zstd, b"no frame", 1000);
    }

    const CODINGS: [Coding; 3] = [Coding::Identity, Coding::Gzip, Coding::Zstd];

    fn check_error(coding: Coding, data: impl Into<Bytes>, max_bytes: usize, expected: &str) {
        let error =
            decode(coding, data.into(), max_bytes).expect_err("must not decode").to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_coded_comes_back(data in prop::collection::vec(any::<u8>(), 0..2000), room in 0..3_usize) {
            let data = Bytes::from(data);
            for coding in CODINGS {
                prop_assert_eq!(&decode(coding, encode(coding, &data), data.len() + room).unwrap(), &data);
            }
        }

        #[test]
        fn noise_is_refused_or_decoded_but_never_more_than_the_limit(
            data in prop::collection::vec(any::<u8>(), 0..200),
            max_bytes in 0..100_usize,
        ) {
            for coding in CODINGS {
                if let Ok(decoded) = decode(coding, data.clone().into(), max_bytes) {
                    prop_assert!(decoded.len() <= max_bytes);
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_what_there_is_up_to_the_limit() {
        let text: Vec<u8> =
            (0..20_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for coding in CODINGS {
            let whole = encode(coding, &text.clone().into());
            assert_eq!(
                decode_prefix(coding, &whole, text.len()),
                (text.clone(), true),
                "{coding:?}"
            );
            assert_eq!(
                decode_prefix(coding, &whole, 100),
                (text[..100].to_vec(), false),
                "{coding:?}"
            );
            if coding != Coding::Identity {
                let (decoded, is_whole) =
                    decode_prefix(coding, &whole[..whole.len() / 2], text.len());
                assert!(!is_whole && text.starts_with(&decoded), "{coding:?}");
                assert_eq!(decode_prefix(coding, b"hello", 100), (Vec::new(), false), "{coding:?}");
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = Bytes::from(vec![0; 50_000_000]);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let bomb = encode(coding, &zeros);
            assert!(bomb.len() < 250_000, "{}", bomb.len());
            check_error(coding, bomb, 1000, "the decoded body is larger than 1000 bytes");
        }
    }

    #[test]
    fn a_bomb_that_does_not_say_its_size_stops_at_the_limit() {
        // The streaming encoder does not know the size when it writes the head of the frame.
        let bomb = zstd::stream::encode_all(&vec![0; 5_000_000][..], 1).unwrap();
        assert_eq!(get_frame_content_size(&bomb).unwrap(), None);
        check_error(Coding::Zstd, bomb, 1000, "the decoded body is larger than 1000 bytes");
    }

    #[test]
    fn a_second_frame_counts_too() {
        let frame = encode(Coding::Zstd, &Bytes::from(vec![b'x'; 600]));
        let two = [&frame[..], &frame[..]].concat();
        assert_eq!(decode(Coding::Zstd, two.clone().into(), 1200).unwrap(), vec![b'x'; 1200]);
        check_error(Coding::Zstd, two, 1199, "the decoded body is larger than 1199 bytes");
    }

    #[test]
    fn broken_bodies_are_told_apart() {
        check_error(Coding::Gzip, "hello", 1000, "the body is not valid gzip: ");
        check_error(Coding::Zstd, "hello", 1000, "the body is not valid zstd: ");
        for coding in [Coding::Gzip, Coding::Zstd] {
            let whole = encode(coding, &Bytes::from_static(b"hello hello hello"));
            let cut = whole.slice(..whole.len() - 3);
            check_error(coding, cut, 1000, &format!("the body is not valid {}: ", coding.name()));
        }
    }
}
