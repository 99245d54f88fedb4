//! What the process says about how the files of a model are fetched.

use std::path::PathBuf;

/// By what the files of a model are fetched.
#[derive(Clone, Debug)]
pub enum ModelFetcher {
    /// By an image, into a volume.
    Cluster(ClusterFetcher),
    /// By the program `ebb`, into a cache of this machine.
    Local(LocalFetcher),
}

/// On a cluster.
#[derive(Clone, Debug)]
pub struct ClusterFetcher {
    /// The image of `ebb-fetch`.
    pub image: String,
    /// Networks, as CIDR, that models may come from although they are refused otherwise.
    pub networks: Vec<String>,
}

/// In local mode.
#[derive(Clone, Debug)]
pub struct LocalFetcher {
    /// The program `ebb`, whose command `fetch` does it.
    pub program: PathBuf,
    /// The folder that keeps models.
    pub cache: PathBuf,
    /// Bytes that it may hold.
    pub limit: u64,
    /// As of [`ClusterFetcher`].
    pub networks: Vec<String>,
    /// Whether this machine lets programs have mounts; without them a model is told the path in the
    /// cache.
    pub can_mount: bool,
}
