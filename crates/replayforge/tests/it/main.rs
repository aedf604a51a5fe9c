//! The real program, started as its users start it: real processes, real files, loopback ports.
//!
//! [`support`] holds the harness. Each other module is one promise of the program:
//!
//! | module | what it proves |
//! | --- | --- |
//! | [`fixtures`] | real webhook bodies arrive with every byte, none lost, none twice |
//! | [`hostile`] | so do the shapes that clients can legally, and less legally, send |
//! | [`compat`] | programs, files and databases of the original work with ours |
//! | [`outage`], [`mending`], [`letters`] | what is away, wrong, full or broken costs time and never events |
//! | [`halves`] | a batch that is refused as a whole arrives in parts, once; only a relay blames an event |
//! | [`forward`] | traffic through `forwardTo` is untouched and never waits; the copy is true and shows no secret |
//! | [`crash`] | what was acknowledged survives a SIGKILL of any role at any moment |
//! | [`scripted`] | the same holds with scripts in the way, however hostile |
//! | [`sources`] | each source but `http`: what it reads arrives, what it starts ends |
//! | [`agent_status`] | what proxies and players tell of themselves |
//! | [`tracing_events`] | the way of one event is told, wherever it is |
//! | [`tables`] | the sinks that keep tables have every event once, through kills, and answer queries |
//! | [`limits`] | no flood makes a file larger than it may be |
//! | [`page`] | the player's server and its page, in a real browser |
//! | [`mirroring`] | web servers send copies as the manual says, and serve on without the proxy |
//! | [`postgres`] | databases are read and heard: every type, through restarts, refusals and kills |
//! | [`every_sink`] | real webhook bodies go into every sink |
//! | [`exec`] | programs of the user's own take events |
//! | [`log`] | events as lines of the log, or of a file of their own, once |
//! | [`file`] | every event is in a file once, whatever is killed, and goes back from there |
//! | [`broken_disk`] | a disk that is full or read-only costs its sinks time, and nobody else anything |
//! | [`alarms`] | what goes wrong is told once, and its end too |
//! | [`notify`] | people are told, once and in time, by the services that they use |
//! | [`watching`], [`watching_cli`], [`metrics`], [`alerts`] | who looks at the relay, or is told by it, knows what is broken and why |
//! | [`manual`] | the manual's calls do what stands there |
//! | [`relay_alone`] | a relay says whom it refuses, and has its folder for itself |
//! | [`example_stacks`] | each folder of `examples/` works as its README says |
//! | [`cli`], [`demo`], [`script`] | the command line as a user meets it |

// `cfg(test)` is always set here; it tells clippy that helpers outside of `#[test]` functions are tests too.
#[cfg(test)]
mod agent_status;
#[cfg(test)]
mod alarms;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod broken_disk;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod every_sink;
#[cfg(test)]
mod example_stacks;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod file;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod halves;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod letters;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod log;
#[cfg(test)]
mod manual;
#[cfg(test)]
mod mending;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod mirroring;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod page;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod relay_alone;
#[cfg(test)]
mod script;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tracing_events;
#[cfg(test)]
mod watching;
#[cfg(test)]
mod watching_cli;
