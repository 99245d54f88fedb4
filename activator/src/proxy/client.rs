//! The callers whose requests are served, and the state that all of them share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::budget::{Budget, Part};
use crate::directory::Directory;
use crate::guard::Activity;
use crate::headers::ClientEnd;
use crate::peers::Peers;
use crate::places::Place;
use crate::revision::RevisionContext;
use crate::route::Door;
use crate::tunnel::Tunnels;

/// State that all connections share.
pub(crate) struct Proxy {
    pub(crate) directory: Arc<Directory>,
    pub(crate) context: Arc<RevisionContext>,
    pub(crate) tunnels: Tunnels,
    /// The bytes that all requests hold in memory.
    pub(crate) held: Arc<Budget>,
    /// The bytes that requests to the models host hold before their model is known.
    pub(crate) unnamed: Arc<Part>,
    /// One large body is looked through at a time.
    pub(crate) reading: Arc<Semaphore>,
    /// `None` where this activator is the only one.
    pub(crate) peers: Option<Arc<Peers>>,
}

/// One connection of a client or of another activator.
pub(crate) struct Client {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) caller: Caller,
    pub(crate) activity: Arc<Activity>,
    /// The place of the connection, which its tunnel keeps; without one its requests are refused.
    pub(crate) place: Option<Arc<Place>>,
}

/// The other end of a connection.
pub(crate) enum Caller {
    /// A client that reached this door: nothing that it says about revisions or other clients is
    /// believed.
    Client(ClientEnd, Door),
    /// Another activator.
    Peer,
}
