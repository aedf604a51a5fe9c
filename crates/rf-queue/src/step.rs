//! Where the crash tests kill a process: between every two steps that matter.
//!
//! In the crate's own tests `reached` aborts the process at the step that the environment variable `RF_QUEUE_CRASH_AT`
//! counts to. Everywhere else it is nothing.

#[cfg(not(test))]
pub(crate) fn reached(_step: &'static str) {}

#[cfg(test)]
pub(crate) use armed::reached;

#[cfg(test)]
pub(crate) mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    pub(crate) const VARIABLE: &str = "RF_QUEUE_CRASH_AT";

    static LEFT: OnceLock<Option<AtomicI64>> = OnceLock::new();

    /// Aborts like a kill: no destructor runs, no buffer is flushed.
    pub(crate) fn reached(step: &'static str) {
        let left =
            LEFT.get_or_init(|| Some(AtomicI64::new(std::env::var(VARIABLE).ok()?.parse().ok()?)));
        if let Some(left) = left
            && left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            eprintln!("crash at {step}");
            std::process::abort();
        }
    }
}
