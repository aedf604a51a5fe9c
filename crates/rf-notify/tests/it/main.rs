//! Each service against a server that behaves as the service's documentation says, and mail against a real mail server.

#[cfg(test)]
mod chats;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod pushes;
#[cfg(test)]
mod support;
#[cfg(test)]
mod webhooks;
