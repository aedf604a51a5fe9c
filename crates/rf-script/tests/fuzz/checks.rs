//! What must hold for any bytes that come into a script. Shared by the plain tests here and by the cargo-fuzz targets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rf_script::{End, ScriptOptions, Session};

const JSON: &str = "function Process(content, emit)
    local value, wrong = json_decode(content)
    if wrong == nil then emit('out', json_encode(value)) end
end";

const GROK: &str = "function Process(content, emit)
    local at = content:find('\\n', 1, true) or 0
    local found, wrong = grok_parse(content:sub(1, at - 1), content:sub(at + 1))
    if found ~= nil then emit('out', found) else emit('out', wrong) end
end";

thread_local! {
    static JSON_SCRIPT: RefCell<Session> = RefCell::new(session(JSON));
    static GROK_SCRIPT: RefCell<Session> = RefCell::new(session(GROK));
}

fn session(script: &str) -> Session {
    let options = Arc::new(ScriptOptions::new("fuzz.lua", vec!["out".to_owned()]));
    Session::new(options, BTreeMap::new(), script.as_bytes().to_vec()).expect("the script loads")
}

/// What the script emits; `None` when it emits nothing, or was cut short by its time, which is how a busy machine shows.
/// It never fails otherwise, whatever it is given.
fn run(session: &mut Session, data: &[u8]) -> Option<Vec<u8>> {
    let outcome = session.process(data).expect("the script can be called again");
    if let End::Failed(reason) = &outcome.end {
        assert!(
            reason.contains("longer than its limit"),
            "{reason}: {}",
            String::from_utf8_lossy(data)
        );
        return None;
    }
    outcome.emits.first().map(|emit| emit.content.to_vec())
}

/// JSON is decoded or refused; what was decoded is encoded as JSON, and that comes back the same.
pub(crate) fn json(data: &[u8]) {
    JSON_SCRIPT.with_borrow_mut(|session| {
        if let Some(once) = run(session, data) {
            serde_json::from_slice::<serde::de::IgnoredAny>(&once)
                .expect("what is encoded is JSON");
            assert!(run(session, &once).is_none_or(|again| again == once), "not the same again");
        }
    });
}

/// A line of a pattern, and a text: there are captures, or none, or a reason; in time, and without a failure.
pub(crate) fn grok(data: &[u8]) {
    GROK_SCRIPT.with_borrow_mut(|session| {
        assert!(run(session, data).is_none_or(|said| !said.is_empty()));
    });
}
