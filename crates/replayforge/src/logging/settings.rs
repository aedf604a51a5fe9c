//! What the user may choose about logging: the level, the format, colours.
//!
//! A setting that cannot be understood is never a reason not to start: the default is taken, and a
//! warning names the variable, its value and what was expected.

use tracing::Level;

/// Where a role looks for its level, the first that is set wins.
pub const LEVEL_VARIABLES: &[&str] = &["LOG_LEVEL"];

/// [`LEVEL_VARIABLES`] of the proxy role.
pub const PROXY_LEVEL_VARIABLES: &[&str] = &["RPF_LOG_LEVEL", "LOG_LEVEL"];

const FORMAT_VARIABLE: &str = "LOG_FORMAT";

/// See <https://no-color.org>.
const NO_COLOUR_VARIABLE: &str = "NO_COLOR";

const LEVELS: [(&str, Level); 5] = [
    ("trace", Level::TRACE),
    ("debug", Level::DEBUG),
    ("info", Level::INFO),
    ("warn", Level::WARN),
    ("error", Level::ERROR),
];

const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

/// The checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The least severe level that is shown.
    pub level: Level,
    /// How a line is written.
    pub format: Format,
    /// Whether text may be coloured.
    pub colours: Colours,
    /// What could not be understood, to be logged once logging works.
    pub warnings: Vec<String>,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// A JSON object a line, for programs.
    Json,
}

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// When stderr is a terminal.
    Auto,
    /// Not even there (`NO_COLOR` is set).
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: Level::INFO,
            format: Format::Text,
            colours: Colours::Auto,
            warnings: Vec::new(),
        }
    }
}

/// Whether this text names a level.
#[must_use]
pub fn is_level(text: &str) -> bool {
    chosen(&LEVELS, text).is_some()
}

/// All levels, for messages.
#[must_use]
pub fn level_names() -> String {
    names(&LEVELS)
}

fn chosen<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(text.trim()));
    found.map(|(_, choice)| *choice)
}

fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(choice, _)| *choice).collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Reads the settings: the level from the first of `level_variables` that is set, else from
    /// `configured_level` (the role's file), else `info`. `variable` looks up the environment; what
    /// is empty counts as not set.
    #[must_use]
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        level_variables: &[&str],
        configured_level: Option<&str>,
    ) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let mut settings = Self::default();
        let from_environment =
            level_variables.iter().find_map(|name| set(name).map(|value| (*name, value)));
        let from_file = configured_level
            .filter(|value| !value.trim().is_empty())
            .map(|value| ("the configured log level", value.to_owned()));
        if let Some((name, value)) = from_environment.or(from_file) {
            settings.level = settings.choose(&LEVELS, name, &value).unwrap_or(Level::INFO);
        }
        if let Some(value) = set(FORMAT_VARIABLE) {
            settings.format =
                settings.choose(&FORMATS, FORMAT_VARIABLE, &value).unwrap_or(Format::Text);
        }
        if set(NO_COLOUR_VARIABLE).is_some() {
            settings.colours = Colours::Never;
        }
        settings
    }

    /// The choice that `value` names; else a warning that says which name is taken instead.
    fn choose<T: Copy>(&mut self, choices: &[(&str, T)], name: &str, value: &str) -> Option<T> {
        let found = chosen(choices, value);
        if found.is_none() {
            let known = names(choices);
            self.warnings
                .push(format!("{name} is {value:?}, expected one of {known}; the default is used"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[(&str, &str)], names: &[&str], configured: Option<&str>) -> Settings {
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(variable, names, configured)
    }

    fn check_level(environment: &[(&str, &str)], configured: Option<&str>, expected: [Level; 2]) {
        for (names, level) in [LEVEL_VARIABLES, PROXY_LEVEL_VARIABLES].into_iter().zip(expected) {
            let settings = read(environment, names, configured);
            assert_eq!(settings, Settings { level, ..Settings::default() }, "{environment:?}");
        }
    }

    fn check_warning(environment: &[(&str, &str)], configured: Option<&str>, expected: &str) {
        let settings = read(environment, PROXY_LEVEL_VARIABLES, configured);
        let warnings = vec![format!("{expected}; the default is used")];
        assert_eq!(settings, Settings { warnings, ..Settings::default() });
    }

    #[test]
    fn the_level_comes_from_the_strongest_source() {
        const PROXY: &str = "RPF_LOG_LEVEL";
        const ALL: &str = "LOG_LEVEL";
        // Expected: any role, the proxy.
        check_level(&[], None, [Level::INFO, Level::INFO]);
        check_level(&[], Some("error"), [Level::ERROR, Level::ERROR]);
        check_level(&[], Some("Error"), [Level::ERROR, Level::ERROR]);
        check_level(&[], Some(""), [Level::INFO, Level::INFO]);
        check_level(&[(ALL, "Debug")], Some("error"), [Level::DEBUG, Level::DEBUG]);
        check_level(&[(PROXY, "TRACE")], Some("error"), [Level::ERROR, Level::TRACE]);
        check_level(&[(ALL, "warn"), (PROXY, " trace ")], None, [Level::WARN, Level::TRACE]);
        check_level(&[(ALL, "warn"), (PROXY, "")], None, [Level::WARN, Level::WARN]);
    }

    #[test]
    fn the_format_is_text_unless_json_is_asked_for() {
        let format = |value| read(&[("LOG_FORMAT", value)], LEVEL_VARIABLES, None).format;
        assert_eq!(
            [format(""), format("text"), format("JSON")].map(|f| f == Format::Json),
            [false, false, true]
        );
    }

    #[test]
    fn colours_can_be_refused() {
        assert_eq!(read(&[("NO_COLOR", "1")], LEVEL_VARIABLES, None).colours, Colours::Never);
        assert_eq!(read(&[("NO_COLOR", "")], LEVEL_VARIABLES, None).colours, Colours::Auto);
    }

    #[test]
    fn what_cannot_be_understood_is_warned_of_and_the_default_taken() {
        check_warning(
            &[("LOG_LEVEL", "verbose")],
            Some("error"),
            "LOG_LEVEL is \"verbose\", expected one of trace, debug, info, warn, error",
        );
        check_warning(
            &[("RPF_LOG_LEVEL", "3"), ("LOG_LEVEL", "error")],
            None,
            "RPF_LOG_LEVEL is \"3\", expected one of trace, debug, info, warn, error",
        );
        check_warning(
            &[],
            Some("loud"),
            "the configured log level is \"loud\", expected one of trace, debug, info, warn, error",
        );
        check_warning(
            &[("LOG_FORMAT", "xml")],
            None,
            "LOG_FORMAT is \"xml\", expected one of text, json",
        );
    }
}
