//! The original's flags as its users write them, turned into ours.
//!
//! Its flags are those of Go: one dash or two before any name, and a value in the next argument or behind `=`. Of ours one
//! dash means one letter.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The roles have the original's flags `-c`, `-p` and `-v`, also with two dashes.
const ROLES: [&str; 3] = ["proxy", "relay", "player"];

/// The original's `proxy -dbg SCRIPT -dbg-file INPUT` is `script run SCRIPT --input INPUT`, and flags of one letter get one
/// dash. Anything else is left as it is.
pub fn translate_original(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.into_iter().collect();
    let is = |role: &str| args.get(1).is_some_and(|arg| arg == role);
    if !ROLES.into_iter().any(is) {
        return args;
    }
    match (value_of(&args, "dbg"), value_of(&args, "dbg-file"), args.first()) {
        (Some(script), Some(input), Some(program)) if is("proxy") => {
            let run = ["script", "run"].map(OsString::from);
            let mut translated = vec![program.clone()];
            translated.extend(run);
            translated.extend([script, "--input".into(), input]);
            translated
        }
        _ => args.into_iter().map(with_one_dash).collect(),
    }
}

/// The value of one of the original's long flags.
fn value_of(args: &[OsString], flag: &str) -> Option<OsString> {
    args.iter().enumerate().find_map(|(at, arg)| {
        let arg = arg.as_bytes();
        let name = arg.strip_prefix(b"--").or_else(|| arg.strip_prefix(b"-"))?;
        match name.strip_prefix(flag.as_bytes())? {
            [] => args.get(at + 1).cloned(),
            [b'=', value @ ..] => Some(OsStr::from_bytes(value).to_owned()),
            _ => None,
        }
    })
}

fn with_one_dash(arg: OsString) -> OsString {
    let is_short = matches!(
        arg.as_bytes(),
        [b'-', b'-', b'c' | b'p' | b'v'] | [b'-', b'-', b'c' | b'p' | b'v', b'=', ..]
    );
    if is_short { OsString::from_vec(arg.into_vec().split_off(1)) } else { arg }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, RoleArgs};

    fn translated(line: &str) -> Vec<OsString> {
        translate_original(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_script_that_is_tried_with_a_file() {
        for flags in [
            "-dbg a.lua -dbg-file in.txt",
            "--dbg a.lua --dbg-file in.txt",
            "-dbg=a.lua -dbg-file=in.txt",
            "--dbg-file=in.txt -v -dbg a.lua",
        ] {
            let expected: Vec<OsString> =
                "rf script run a.lua --input in.txt".split(' ').map(OsString::from).collect();
            assert_eq!(translated(&format!("rf proxy {flags}")), expected, "{flags}");
        }
        for line in
            ["rf relay -dbg a -dbg-file b", "rf proxy -dbg a", "rf proxy -dbgx=a -dbg-file b"]
        {
            assert_eq!(translated(line).join(OsStr::new(" ")), OsString::from(line));
        }
    }

    #[test]
    fn flags_of_one_letter_go_with_one_dash_or_two_and_with_or_without_an_equals_sign() {
        for flags in [
            "-c f.json -p 9000 -v",
            "--c f.json --p 9000 --v",
            "-c=f.json -p=9000 -v=debug",
            "--c=f.json --p=9000 --v=DEBUG",
            "--config f.json --port=9000 --verbosity debug",
        ] {
            let cli = Cli::try_parse_from(translated(&format!("rf relay {flags}")));
            let Command::Relay(args) = cli.unwrap_or_else(|error| panic!("{error}")).command else {
                panic!("{flags}: no relay")
            };
            let RoleArgs { config, verbosity, .. } = args.role;
            assert_eq!((config.to_str(), args.port), (Some("f.json"), Some(9000)), "{flags}");
            let level = verbosity.map(|level| level.to_lowercase());
            assert_eq!(level.as_deref(), Some("debug"), "{flags}");
        }
        // Other commands have no such flags, and may mean something else.
        let line = "rf trace --c f.json";
        assert_eq!(translated(line).join(OsStr::new(" ")), OsString::from(line));
    }
}
