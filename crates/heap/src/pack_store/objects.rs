//! Packs in an object store that speaks S3.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};

use super::{
    BoxFuture, DirectoryPacks, PackError, PackInfo, PackStore, cut, pack_name, pack_number,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RETRIES_MAX: usize = 5;
/// A request may take a second more for so many bytes.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// Where packs are kept and how the store is reached.
#[derive(Clone)]
pub struct ObjectsOptions {
    /// `s3://bucket/prefix`, or `file:///directory` for a directory of this machine. The prefix may be missing.
    pub url: String,
    /// The address of an S3 service other than Amazon's, as `https://host:port`.
    pub endpoint: Option<String>,
    /// The region's name; some services want any, some a certain one.
    pub region: Option<String>,
    /// The key's id; without it, credentials come from the environment or the machine's role.
    pub access_key: Option<String>,
    /// The key's secret.
    pub secret_key: Option<String>,
    /// How long a request may take, retries included, before the store counts as away. Large packs have a second more
    /// for each MiB.
    pub request_timeout: Duration,
    /// Whether an endpoint without TLS may be used.
    pub allow_http: bool,
}

impl ObjectsOptions {
    /// Options with the usual bounds for the store at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            request_timeout: Duration::from_secs(10),
            allow_http: false,
        }
    }
}

impl fmt::Debug for ObjectsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectsOptions")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .field("request_timeout", &self.request_timeout)
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

/// The options name no store.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The URL is of no known form.
    #[error("{0} is neither s3://bucket/prefix nor file:///directory")]
    Url(String),
    /// The client cannot be set up as asked for.
    #[error("the object store cannot be used: {0}")]
    Setup(#[from] object_store::Error),
    /// The directory cannot be made.
    #[error("the directory of packs cannot be used: {0}")]
    Directory(PackError),
}

/// A pack store over an object store. Object names are the packs' numbers, so that a listing is in their order.
///
/// A pack is put under the condition that there is none of its name. Some services ignore that condition (Garage 2.5
/// does); there only the writer in a pack's number keeps one from being written over another, and no two processes
/// may have the same ([`PackOptions::writer`](crate::PackOptions::writer)).
#[derive(Clone)]
pub struct ObjectPacks {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    request_timeout: Duration,
}

impl ObjectPacks {
    /// Over `store`, under `prefix`.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, request_timeout: Duration) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
            request_timeout,
        }
    }

    /// The pack store that `options` name. Nothing is asked of it yet.
    pub fn connect(options: &ObjectsOptions) -> Result<Arc<dyn PackStore>, ObjectsError> {
        if let Some(dir) = options.url.strip_prefix("file://") {
            let packs = DirectoryPacks::open(dir).map_err(ObjectsError::Directory)?;
            return Ok(Arc::new(packs));
        }
        let place = options.url.strip_prefix("s3://");
        let place = place.map(|place| place.split_once('/').unwrap_or((place, "")));
        let Some((bucket, prefix)) = place.filter(|(bucket, _)| !bucket.is_empty()) else {
            return Err(ObjectsError::Url(options.url.clone()));
        };
        let store = Arc::new(builder(options, bucket).build()?);
        Ok(Arc::new(Self::new(store, prefix, options.request_timeout)))
    }

    fn name(&self, pack: u64) -> Path {
        self.prefix.clone().join(pack_name(pack))
    }

    /// Runs a request that moves so many bytes within its time.
    async fn timed<T>(
        &self,
        pack: u64,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, PackError> {
        let time = self.request_timeout + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        match tokio::time::timeout(time, request).await {
            Ok(done) => done.map_err(|error| failure(pack, &error)),
            Err(_) => Err(PackError::Unavailable(format!("no answer within {time:?}"))),
        }
    }

    async fn read_range(&self, name: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
        if !range.is_empty() {
            match self.store.get_range(name, range.clone()).await {
                // A range that begins beyond the end is an error to the service, and nothing here.
                Err(error @ object_store::Error::Generic { .. }) => {
                    if self.store.head(name).await?.size > range.start {
                        return Err(error);
                    }
                    return Ok(Bytes::new());
                }
                read => return read,
            }
        }
        self.store.head(name).await.map(|_| Bytes::new())
    }
}

fn builder(options: &ObjectsOptions, bucket: &str) -> AmazonS3Builder {
    let mut builder = match &options.access_key {
        Some(key) => AmazonS3Builder::new().with_access_key_id(key),
        None => AmazonS3Builder::from_env(),
    };
    if let Some(secret) = &options.secret_key {
        builder = builder.with_secret_access_key(secret);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT.min(options.request_timeout))
        // Each request has a time of its own, by what it moves.
        .with_timeout_disabled()
        .with_allow_http(options.allow_http);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: options.request_timeout,
    };
    builder
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry)
        .with_disable_bulk_delete(true)
}

fn failure(pack: u64, error: &object_store::Error) -> PackError {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => PackError::Missing(pack),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => PackError::Exists(pack),
        _ => PackError::Unavailable(error.to_string()),
    }
}

impl PackStore for ObjectPacks {
    fn put<'a>(&'a self, pack: u64, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move {
            let payload: PutPayload = bytes.into_iter().collect();
            let len = payload.content_length() as u64;
            let name = self.name(pack);
            let options = PutOptions::from(PutMode::Create);
            let put = self.store.put_opts(&name, payload, options);
            self.timed(pack, len, put).await.map(drop)
        })
    }

    fn read<'a>(&'a self, pack: u64, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, PackError>> {
        Box::pin(async move {
            let range = cut(&range, u64::MAX);
            let name = self.name(pack);
            let len = range.end - range.start;
            self.timed(pack, len, self.read_range(&name, range)).await
        })
    }

    fn delete<'a>(&'a self, pack: u64) -> BoxFuture<'a, Result<(), PackError>> {
        Box::pin(async move {
            let name = self.name(pack);
            match self.timed(pack, 0, self.store.delete(&name)).await {
                Err(PackError::Missing(_)) => Ok(()),
                deleted => deleted,
            }
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PackInfo>, PackError>> {
        Box::pin(async move {
            let listed = match after {
                Some(after) => self
                    .store
                    .list_with_offset(Some(&self.prefix), &self.name(after)),
                None => self.store.list(Some(&self.prefix)),
            };
            let packs = listed.try_filter_map(|object| {
                let pack = object.location.filename().and_then(pack_number);
                let info = pack.map(|pack| PackInfo {
                    pack,
                    bytes: object.size,
                });
                std::future::ready(Ok(info))
            });
            // Lazily: further pages are not asked for than are needed.
            let mut packs = std::pin::pin!(packs);
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(info) = self.timed(0, 0, packs.try_next()).await?
            {
                found.push(info);
            }
            Ok(found)
        })
    }
}
