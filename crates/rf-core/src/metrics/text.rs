//! The text that Prometheus scrapes: its own format, or `OpenMetrics` for who asks for that.
//!
//! Our own lines, since a client library keeps counters itself, while these are copied from a report; and none writes both
//! forms.

use std::fmt;

/// A form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Version 0.0.4 of its own.
    Prometheus,
    /// Version 1.0.0.
    OpenMetrics,
}

impl Form {
    /// What the scraper likes best; Prometheus' own form for who does not say.
    ///
    /// `accept`: the values of its `Accept` headers.
    #[must_use]
    pub fn negotiate(accept: &[&str]) -> Form {
        let weight_of = |media: &str| {
            let items = accept.iter().flat_map(|value| value.split(','));
            let weights = items.filter_map(|item| {
                let mut parts = item.split(';').map(str::trim);
                (parts.next()?.eq_ignore_ascii_case(media)).then_some(())?;
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                weight.map_or(Some(1.0), |weight| weight.parse::<f64>().ok())
            });
            weights.fold(0.0, f64::max)
        };
        let open = weight_of("application/openmetrics-text");
        if open > 0.0 && open >= weight_of("text/plain") {
            Form::OpenMetrics
        } else {
            Form::Prometheus
        }
    }

    /// Says which form it is.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Its name ends in `_total`.
    Counter,
    /// Counts by upper bound.
    Histogram,
}

/// A label and its value.
pub type Label<'a> = (&'a str, &'a str);

/// A text being written. All samples of a family follow its head.
#[derive(Debug)]
pub struct Text {
    out: String,
    form: Form,
}

impl Text {
    /// Nothing yet.
    #[must_use]
    pub fn new(form: Form) -> Text {
        Text { out: String::with_capacity(64 * 1024), form }
    }

    /// The head of a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        // OpenMetrics names the family of a counter without what its samples end with.
        let name = match (self.form, kind) {
            (Form::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One value.
    pub fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl fmt::Display) {
        self.put(format_args!("{name}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.put(format_args!("{before}{label}=\"{}\"", Escaped(text)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{after} {value}\n"));
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        fmt::Write::write_fmt(&mut self.out, text).expect("writing into memory cannot fail");
    }
}

/// A label's value, which may be anything that a host calls itself.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            let plain = part.trim_end_matches(['\\', '"', '\n']);
            f.write_str(plain)?;
            match part.as_bytes().get(plain.len()) {
                Some(b'\\') => f.write_str("\\\\")?,
                Some(b'"') => f.write_str("\\\"")?,
                Some(_) => f.write_str("\\n")?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let write = |form| {
            let mut text = Text::new(form);
            text.family("a_total", Kind::Counter, "Counts.");
            text.sample("a_total", &[("host", "a\"b\\c\nd\\\\"), ("role", "é")], 5);
            text.family("b", Kind::Gauge, "Is.");
            text.sample("b", &[], 0.5);
            text.finish()
        };
        let plain = "# HELP a_total Counts.\n# TYPE a_total counter\n\
                     a_total{host=\"a\\\"b\\\\c\\nd\\\\\\\\\",role=\"é\"} 5\n\
                     # HELP b Is.\n# TYPE b gauge\nb 0.5\n";
        assert_eq!(write(Form::Prometheus), plain);
        let open = plain.replace("HELP a_total", "HELP a").replace("TYPE a_total", "TYPE a");
        assert_eq!(write(Form::OpenMetrics), open + "# EOF\n");
    }

    #[test]
    fn the_scraper_chooses() {
        for (accept, form) in [
            ("", Form::Prometheus),
            ("*/*", Form::Prometheus),
            ("text/plain;version=0.0.4;q=0.3,*/*;q=0.2", Form::Prometheus),
            ("application/openmetrics-text", Form::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Form::OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text;q=0.5", Form::Prometheus),
            ("application/openmetrics-text;q=0", Form::Prometheus),
        ] {
            assert_eq!(Form::negotiate(&[accept]), form, "{accept}");
        }
    }
}
