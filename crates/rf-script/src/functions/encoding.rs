//! `base64_*`, `hex_*`, `sha256`, `hmac_sha256`.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};
use hmac::{Hmac, KeyInit, Mac};
use mlua::Lua;
use sha2::{Digest, Sha256};

use super::{Bytes, Call, define};
use crate::vm::Host;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Reads with and without padding; what it writes is padded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    define(lua, host, "base64_encode", |call| Ok(BASE64.encode(call.text(0, "text")?.as_bytes())))?;
    define(lua, host, "base64_decode", |call| {
        call.answer(base64_decode(&call.text(0, "text")?.as_bytes()))
    })?;
    define(lua, host, "hex_encode", |call| Ok(hex_encode(&call.text(0, "text")?.as_bytes())))?;
    define(lua, host, "hex_decode", |call| {
        call.answer(hex_decode(&call.text(0, "text")?.as_bytes()))
    })?;
    define(lua, host, "sha256", |call| {
        Ok(hex_encode(&Sha256::digest(call.text(0, "text")?.as_bytes())))
    })?;
    define(lua, host, "hmac_sha256", hmac_sha256)
}

fn hmac_sha256(call: &Call<'_>) -> mlua::Result<String> {
    let key = call.text(0, "key")?;
    let text = call.text(1, "text")?;
    let mac = Hmac::<Sha256>::new_from_slice(&key.as_bytes());
    let mut mac = mac.map_err(|error| call.error(error))?;
    mac.update(&text.as_bytes());
    Ok(hex_encode(&mac.finalize().into_bytes()))
}

/// Both alphabets, mixed if need be; line breaks are passed over, as many a tool puts one at the end.
fn base64_decode(text: &[u8]) -> Result<Bytes, String> {
    let standard =
        text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        });
    let standard: Vec<u8> = standard.collect();
    BASE64.decode(standard).map(Bytes).map_err(|error| match error {
        DecodeError::InvalidByte(at, byte) => {
            format!("byte {} is `{}`: not a base64 character", at + 1, byte.escape_ascii())
        }
        DecodeError::InvalidLength(length) => format!("{length} characters: cut off"),
        other => other.to_string().to_ascii_lowercase(),
    })
}

fn hex_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(HEX_DIGITS[usize::from(digit)]));
        }
    }
    text
}

fn hex_decode(text: &[u8]) -> Result<Bytes, String> {
    if !text.len().is_multiple_of(2) {
        return Err(format!("{} digits: expected an even number", text.len()));
    }
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for (index, pair) in text.chunks_exact(2).enumerate() {
        let digit = |at: usize| {
            hex_digit(pair[at]).ok_or_else(|| {
                let shown = pair[at].escape_ascii();
                format!("byte {} is `{shown}`: expected a hex digit", index * 2 + at + 1)
            })
        };
        bytes.push(digit(0)? << 4 | digit(1)?);
    }
    Ok(Bytes(bytes))
}

/// The value of a hex digit, in small or capital letters.
pub(super) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::check;

    #[test]
    fn base64_has_the_vectors_of_rfc_4648() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            check(&format!("return base64_encode('{text}')"), encoded);
            check(&format!("return base64_decode('{encoded}')"), text);
            let bare = encoded.trim_end_matches('=');
            check(&format!("return base64_decode('{bare}')"), text);
        }
    }

    #[test]
    fn base64_takes_both_alphabets_and_any_bytes() {
        check(r"return base64_encode('\xfb\xef\xff\0')", "++//AA==");
        check(r"return base64_decode('++//AA==') == '\xfb\xef\xff\0'", "true");
        check(r"return base64_decode('--__AA') == '\xfb\xef\xff\0'", "true");
        check(r"return base64_decode('Zm9v\r\nYmFy\n')", "foobar");
    }

    #[test]
    fn what_is_not_base64_is_named() {
        check(
            "return base64_decode('Zm9*')",
            "nil base64_decode: byte 4 is `*`: not a base64 character",
        );
        check("return base64_decode('Zm9vY')", "nil base64_decode: 5 characters: cut off");
        check("return (select('#', base64_decode('Zm9v')))", "1");
        check("local v, e = base64_decode('Zm9vYh==') return v, e ~= nil", "nil true");
        check("local v, e = base64_decode('Zm=9v') return v, e ~= nil", "nil true");
    }

    #[test]
    fn hex_goes_both_ways() {
        check(r"return hex_encode('\0\x0f\xff')", "000fff");
        check(r"return hex_decode('000fFF') == '\0\x0f\xff'", "true");
        check("return hex_decode('')", "");
        check("return hex_decode('abc')", "nil hex_decode: 3 digits: expected an even number");
        check("return hex_decode('0g')", "nil hex_decode: byte 2 is `g`: expected a hex digit");
    }

    #[test]
    fn sha256_has_the_vectors_of_fips_180() {
        for (text, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            check(&format!("return sha256('{text}')"), digest);
        }
        check(
            "return sha256(('a'):rep(1000000))",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        );
    }

    #[test]
    fn hmac_has_the_vectors_of_rfc_4231() {
        for (key, text, digest) in [
            (
                r"('\x0b'):rep(20)",
                "'Hi There'",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                "'Jefe'",
                "'what do ya want for nothing?'",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                r"('\xaa'):rep(20)",
                r"('\xdd'):rep(50)",
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                r"('\xaa'):rep(131)",
                "'Test Using Larger Than Block-Size Key - Hash Key First'",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            check(&format!("return hmac_sha256({key}, {text})"), digest);
        }
    }
}
