//! What a message says: RFC 5424, RFC 3164 as devices really write it, or any text.
//!
//! Nothing is refused: what does not fit is left out, and the whole text is in `raw`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value};

use super::time::{Writer, is_time, time_3164};

/// Of a message that names none: facility user, severity notice (RFC 3164, section 4.3.3).
const DEFAULT_PRIORITY: u8 = 13;
/// A tag of RFC 3164 has 32 characters; some senders write more.
const MAX_TAG: usize = 64;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// A message, as it is written into the event's body.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Message<'a> {
    facility: &'static str,
    severity: &'static str,
    facility_code: u8,
    severity_code: u8,
    /// As RFC 3339; when the message names none, when it came.
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    procid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msgid: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    structured_data: Map<String, Value>,
    message: &'a str,
    raw: &'a str,
    /// It was longer than allowed, or its end has not come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl<'a> Message<'a> {
    /// Reads a message that came at `now`; times without a zone are of `zone`.
    pub(super) fn parse(raw: &'a str, now: Timestamp, zone: &TimeZone) -> Self {
        let (priority, rest) = priority(raw).unwrap_or((DEFAULT_PRIORITY, raw));
        let mut message = Self {
            facility: FACILITIES[usize::from(priority / 8)],
            severity: SEVERITIES[usize::from(priority % 8)],
            facility_code: priority / 8,
            severity_code: priority % 8,
            timestamp: now.to_string(),
            host: None,
            app: None,
            procid: None,
            msgid: None,
            structured_data: Map::new(),
            message: rest,
            raw,
            truncated: false,
        };
        match rest.strip_prefix("1 ") {
            Some(rest) if message.read_5424(rest).is_some() => {}
            _ => message.read_3164(rest, now, zone),
        }
        message
    }

    /// Marks a message that was cut.
    pub(super) fn cut(mut self, is_cut: bool) -> Self {
        self.truncated = is_cut;
        self
    }

    /// `None`, and nothing changed, when it is not of this form.
    fn read_5424(&mut self, text: &'a str) -> Option<()> {
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next().map(|word| Some(word).filter(|word| *word != "-"));
        let (time, host, app, procid, msgid) = (word()?, word()?, word()?, word()?, word()?);
        let (structured_data, rest) = structured_data(words.next()?)?;
        if let Some(time) = time {
            // As it was written: it may be finer than ours. What is no time at all is another form.
            if !is_time(time) {
                return None;
            }
            time.clone_into(&mut self.timestamp);
        }
        (self.host, self.app, self.procid, self.msgid) = (host, app, procid, msgid);
        self.structured_data = structured_data;
        let message = rest.strip_prefix(' ').unwrap_or(rest);
        self.message = message.strip_prefix('\u{feff}').unwrap_or(message);
        Some(())
    }

    fn read_3164(&mut self, text: &'a str, now: Timestamp, zone: &TimeZone) {
        if let Some(Counted { host, time, rest }) = counted(text, now, zone) {
            (self.host, self.timestamp) = (host, time);
            return self.read_tag(rest.trim_start_matches(' '));
        }
        let Some((time, rest)) = time_3164(text, Writer::Any, now, zone) else {
            // Without a time there is no host, but there may be a tag.
            return self.read_tag(text);
        };
        self.timestamp = time;
        let rest = rest.trim_start_matches(' ');
        // What the machine's own programs write has no host: the tag follows at once.
        match rest.split_once(' ') {
            Some((host, rest)) if !host.contains(['[', ']']) && !host.ends_with(':') => {
                self.host = Some(host);
                self.read_tag(rest.trim_start_matches(' '));
            }
            _ => self.read_tag(rest),
        }
    }

    /// `app[procid]: message`, `app: message`, or a message alone.
    fn read_tag(&mut self, text: &'a str) {
        self.message = text;
        let is_tag = |c: char| c.is_ascii_alphanumeric() || "-_./@()".contains(c);
        let end = text.find(|c| !is_tag(c)).unwrap_or(text.len());
        if end == 0 || end > MAX_TAG {
            return;
        }
        let (app, rest) = text.split_at(end);
        let (procid, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((procid, rest)) if !procid.contains(' ') => (Some(procid), rest),
            _ => (None, rest),
        };
        let Some(message) = rest.strip_prefix(':') else { return };
        (self.app, self.procid) = (Some(app), procid);
        self.message = message.strip_prefix(' ').unwrap_or(message);
    }
}

/// `<PRI>`, and what is behind it.
fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse().ok().filter(|priority| is_number && *priority < 192)?;
    Some((priority, rest))
}

/// `[id name="value" ..][..]` or `-`, and what is behind it.
fn structured_data(text: &str) -> Option<(Map<String, Value>, &str)> {
    let mut elements = Map::new();
    if let Some(rest) = text.strip_prefix('-') {
        return Some((elements, rest));
    }
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix('[') {
        let end = inner.find([' ', ']'])?;
        let (id, mut inner) = inner.split_at(end);
        let mut params = Map::new();
        while let Some(param) = inner.strip_prefix(' ') {
            let (name, value) = param.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            add(&mut params, name, value);
            inner = behind;
        }
        rest = inner.strip_prefix(']')?;
        elements.insert(id.to_owned(), params.into());
    }
    (!elements.is_empty()).then_some((elements, rest))
}

/// A name may come again: then it has a list of values.
fn add(params: &mut Map<String, Value>, name: &str, value: String) {
    match params.get_mut(name) {
        None => drop(params.insert(name.to_owned(), value.into())),
        Some(Value::Array(values)) => values.push(value.into()),
        Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
    }
}

/// Up to the closing quote; `\"`, `\\` and `\]` stand for what is behind the backslash.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\' | ']') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// A message of a Cisco device that counts its messages.
struct Counted<'a> {
    host: Option<&'a str>,
    time: String,
    rest: &'a str,
}

/// Before the time stand a count, perhaps an empty one, the device's name, and a sequence number, each with a colon; the
/// last two may be missing. `None`: it is another form.
fn counted<'a>(text: &'a str, now: Timestamp, zone: &TimeZone) -> Option<Counted<'a>> {
    let is_count = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let (_, mut rest) = text.split_once(": ").filter(|(first, _)| is_count(first))?;
    let mut host = None;
    loop {
        if let Some((time, rest)) = time_3164(rest, Writer::Cisco, now, zone) {
            return Some(Counted { host, time, rest });
        }
        let (word, behind) = rest.split_once(": ")?;
        rest = behind;
        if is_count(word) {
            let (time, rest) = time_3164(rest, Writer::Cisco, now, zone)?;
            return Some(Counted { host, time, rest });
        }
        if host.is_some() || word.contains(' ') {
            return None;
        }
        host = Some(word);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Compares all but `raw`, and the facility's and severity's other names.
    fn check(raw: &str, mut expected: Value) {
        let now = "2026-01-02T03:04:05Z".parse().expect("a time");
        let message = Message::parse(raw, now, &TimeZone::fixed(jiff::tz::offset(1)));
        let mut found = serde_json::to_value(&message).expect("JSON");
        let object = found.as_object_mut().expect("an object");
        assert_eq!(object.remove("raw"), Some(raw.into()));
        object.remove("facility_code");
        object.remove("severity_code");
        if expected.get("timestamp").is_none() {
            expected["timestamp"] = "2026-01-02T03:04:05Z".into();
        }
        assert_eq!(found, expected, "{raw}");
    }

    #[test]
    fn messages_of_rfc_5424() {
        check(
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
            json!({
                "facility": "auth", "severity": "crit", "timestamp": "2003-10-11T22:14:15.003Z",
                "host": "mymachine.example.com", "app": "su", "msgid": "ID47",
                "message": "'su root' failed for lonvick on /dev/pts/8",
            }),
        );
        check(
            r#"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - [exampleSDID@32473 iut="3" eventSource="App\"\\\]lication\n" iut="4"][x@1] It's time"#,
            json!({
                "facility": "local4", "severity": "notice",
                "timestamp": "2003-08-24T05:14:15.000003-07:00",
                "host": "192.0.2.1", "app": "myproc", "procid": "8710",
                "structured_data": {
                    "exampleSDID@32473": { "iut": ["3", "4"], "eventSource": "App\"\\]lication\\n" },
                    "x@1": {},
                },
                "message": "It's time",
            }),
        );
        for time in ["2026-10-11T22:14:15.003000000+23:59", "2026-10-11T22:14:15-23:59"] {
            check(
                &format!("<13>1 {time} h a p m - x"),
                json!({
                    "facility": "user", "severity": "notice", "timestamp": time, "host": "h",
                    "app": "a", "procid": "p", "msgid": "m", "message": "x",
                }),
            );
        }
        check(
            "<0>1 - - - - - -",
            json!({ "facility": "kern", "severity": "emerg", "message": "" }),
        );
    }

    #[test]
    fn messages_of_rfc_3164_as_they_are_really_written() {
        check(
            "<34>Oct 11 22:14:15 mymachine su[230]: 'su root' failed",
            json!({
                "facility": "auth", "severity": "crit", "timestamp": "2025-10-11T21:14:15Z",
                "host": "mymachine", "app": "su", "procid": "230", "message": "'su root' failed",
            }),
        );
        check(
            "<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
            json!({
                "facility": "user", "severity": "notice", "timestamp": "2026-02-05T16:32:18Z",
                "host": "10.0.0.99", "message": "Use the BFG!",
            }),
        );
        // The machine's own programs, and what rsyslog forwards.
        check(
            "<30>Jan  1 00:00:00 systemd[1]: Started x.service.",
            json!({
                "facility": "daemon", "severity": "info", "timestamp": "2025-12-31T23:00:00Z",
                "app": "systemd", "procid": "1", "message": "Started x.service.",
            }),
        );
        check(
            "<30>2026-01-01T00:00:00+01:00 web1 nginx: up",
            json!({
                "facility": "daemon", "severity": "info", "timestamp": "2026-01-01T00:00:00+01:00",
                "host": "web1", "app": "nginx", "message": "up",
            }),
        );
        check(
            "<189>*Jan  2 04:00:00.123: %SYS-5-CONFIG_I: Configured",
            json!({
                "facility": "local7", "severity": "notice", "timestamp": "2026-01-02T03:00:00.123Z",
                "message": "%SYS-5-CONFIG_I: Configured",
            }),
        );
    }

    #[test]
    fn messages_of_cisco_devices() {
        let says = |timestamp: &str, host: Option<&str>, message: &str| {
            let mut expected = json!({
                "facility": "local7", "severity": "notice", "timestamp": timestamp, "message": message,
            });
            if let Some(host) = host {
                expected["host"] = host.into();
            }
            expected
        };
        let message = "%SYS-5-CONFIG_I: Configured from console";
        // With a count, a clock that is not set, and a zone.
        check(
            &format!("<189>29: *Mar  1 18:48:50.483 UTC: {message}"),
            says("2026-03-01T18:48:50.483Z", None, message),
        );
        check(
            &format!("<189>29: Nov 26 18:48:50.483: {message}"),
            says("2025-11-26T17:48:50.483Z", None, message),
        );
        check(
            &format!("<189>Nov 26 18:48:50.483 UTC: {message}"),
            says("2025-11-26T18:48:50.483Z", None, message),
        );
        // A zone that has no one meaning is the local one.
        check(
            &format!("<189>Nov 26 2025 18:48:50 CET: {message}"),
            says("2025-11-26T17:48:50Z", None, message),
        );
        check(
            &format!("<189>000029: rtr1: Nov 26 18:48:50.483: {message}"),
            says("2025-11-26T17:48:50.483Z", Some("rtr1"), message),
        );
        check(
            &format!("<189>29: rtr1: 000030: Nov 26 18:48:50.483 GMT: {message}"),
            says("2025-11-26T18:48:50.483Z", Some("rtr1"), message),
        );
        check(
            &format!("<189>29: 000030: .Nov 26 18:48:50.483 UTC: {message}"),
            says("2025-11-26T18:48:50.483Z", None, message),
        );
        check(
            &format!("<189>: 2025 Nov 26 18:48:50 UTC: {message}"),
            says("2025-11-26T18:48:50Z", None, message),
        );
        // What is no fixed form has no host before it.
        check(
            "<189>31: Nov 26 18:48:50.483 UTC: Received a packet",
            says("2025-11-26T18:48:50.483Z", None, "Received a packet"),
        );
        // Without a time the number is a tag, as it may be; a program's name is no zone.
        let mut expected = says("2026-01-02T03:04:05Z", None, "app: hello");
        expected["app"] = "29".into();
        check("<189>29: app: hello", expected);
        let mut expected = says("2025-11-26T17:48:50Z", None, "hello");
        expected["app"] = "UTC".into();
        check("<189>Nov 26 18:48:50 UTC: hello", expected);
    }

    #[test]
    fn any_other_text_is_a_message() {
        let user =
            |message: &str| json!({ "facility": "user", "severity": "notice", "message": message });
        check("hello there", user("hello there"));
        check("<999>x", user("<999>x"));
        check("<+1>x", user("<+1>x"));
        check("<13>1 not 5424", user("1 not 5424"));
        check(
            "<13>1 2026-01-01T00:00:00Z h a p m [broken x",
            user("1 2026-01-01T00:00:00Z h a p m [broken x"),
        );
        for time in [
            "2026-13-01T00:00:00Z",
            "2026-10-11T22:14:15.003000000+25:00",
            "2026-10-11T22:14:15-24:00",
            "2026-10-11T22:14:15+2500",
        ] {
            let text = format!("1 {time} h a p m - x");
            check(&format!("<13>{text}"), user(&text));
            // Without a time, what is before the first colon is a tag.
            let (tag, rest) = time.split_once(':').expect("a colon");
            let mut expected = user(&format!("{rest} h x"));
            expected["app"] = tag.into();
            check(&format!("<13>{time} h x"), expected);
        }
        check("", user(""));
        check(
            "<13>app: hello",
            json!({ "facility": "user", "severity": "notice", "app": "app", "message": "hello" }),
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "(<[0-9]{1,3}>)?(1 )?[ -~\\PC]{0,80}") {
            Message::parse(&text, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }

        #[test]
        fn nothing_like_cisco_panics(text in "<189>[0-9]{0,3}: ([a-zé]{0,3}: ){0,3}[*.]?Nov 26 18:48:50( [A-Zé]{0,9})?:? ?%?[ -~]{0,9}") {
            Message::parse(&text, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }

        #[test]
        fn nothing_like_5424_panics(text in r#"<34>1 (-|2003-10-11T22:14:15Z) - - - - \[[a-z ="\\\]\[]{0,30}"#) {
            Message::parse(&text, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }
    }
}
