//! What the process gives up once it has what it needs, and what it tells the service manager.
//!
//! Landlock binds a thread and those that it starts afterwards, so [`confine`] comes before any other thread; the
//! user is changed for the whole process, once its ports are bound.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use nix::unistd::{Gid, Group, Uid, User, chown, initgroups, setgid, setuid};
use tracing::{info, warn};

use crate::config::{Config, ListenAddress};

/// The newest interface of Landlock whose rights are asked for; an older kernel gives fewer.
const LANDLOCK: ABI = ABI::V5;

/// What the server reads besides what its configuration names: names and certificates of the system, its clock, its
/// processors.
const SYSTEM_READ: [&str; 8] = [
    "/etc",
    "/usr/share",
    "/usr/lib/ssl",
    "/run/systemd/resolve",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/urandom",
];

/// The process cannot give up what it should.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// There is no such user.
    #[error("`user` in [system]: this machine has no user \"{0}\"")]
    NoUser(String),
    /// There is no such group.
    #[error("`group` in [system]: this machine has no group \"{0}\"")]
    NoGroup(String),
    /// The process was started by somebody else than root.
    #[error(
        "`user` in [system] is \"{0}\", but only root can become somebody else: start the server as root or as that user"
    )]
    NotRoot(String),
    /// The system refuses.
    #[error("cannot become the user \"{0}\": {1}")]
    Refused(String, io::Error),
    /// Landlock is there but cannot be used.
    #[error("Landlock cannot be used: {0}. Set `landlock = false` in [system] to go without it")]
    Landlock(#[from] RulesetError),
}

/// The user that the server is to be.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    user: Uid,
    group: Gid,
}

impl Identity {
    /// The user that the process has to become; `None` when it is to stay who it is.
    pub fn wanted(config: &Config) -> Result<Option<Self>, SystemError> {
        let Some(name) = &config.system.user else {
            return Ok(None);
        };
        let unknown = || SystemError::NoUser(name.clone());
        let user = User::from_name(name).ok().flatten().ok_or_else(unknown)?;
        let group = match &config.system.group {
            None => user.gid,
            Some(group) => {
                let unknown = || SystemError::NoGroup(group.clone());
                let found = Group::from_name(group).ok().flatten();
                found.ok_or_else(unknown)?.gid
            }
        };
        if Uid::effective() == user.uid {
            return Ok(None);
        }
        if !Uid::effective().is_root() {
            return Err(SystemError::NotRoot(name.clone()));
        }
        Ok(Some(Self {
            name: name.clone(),
            user: user.uid,
            group,
        }))
    }

    /// Makes a file or directory over to the user.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        Ok(chown(path, Some(self.user), Some(self.group))?)
    }

    /// Becomes the user, for good. All threads do.
    pub fn assume(&self) -> Result<(), SystemError> {
        let refused = |error: io::Error| SystemError::Refused(self.name.clone(), error);
        let name = CString::new(self.name.as_bytes()).map_err(|error| refused(error.into()))?;
        initgroups(&name, self.group)
            .and_then(|()| setgid(self.group))
            .and_then(|()| setuid(self.user))
            .map_err(|error| refused(error.into()))?;
        // A process that could become root again has given up nothing.
        match setuid(Uid::from_raw(0)) {
            Err(_) => Ok(()),
            Ok(()) => Err(refused(io::Error::other("root was not given up"))),
        }
    }
}

/// Makes the data directory where it is missing, for the user that the server is to be.
pub fn make_data_directory(config: &Config) -> Result<(), SystemError> {
    let data = &config.server.data;
    if data.exists() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    // Where it cannot be made, the look at the machine says so.
    if let (Ok(()), Some(identity)) = (made, Identity::wanted(config)?) {
        let refused = |error| SystemError::Refused(identity.name.clone(), error);
        identity.own(data).map_err(refused)?;
    }
    Ok(())
}

/// How far Landlock holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confinement {
    /// The configuration does without.
    Off,
    /// As a whole.
    Full,
    /// As far as this kernel can.
    Partial,
    /// This kernel has no Landlock.
    Unavailable,
}

impl Confinement {
    /// Tells the log.
    pub fn report(self) {
        match self {
            Self::Off => info!("every file of this user can be reached: Landlock is off"),
            Self::Full => info!("only the files of the configuration can be reached (Landlock)"),
            Self::Partial => {
                info!(
                    "only the files of the configuration can be reached, as far as this kernel's Landlock goes"
                );
            }
            Self::Unavailable => {
                warn!("every file of this user can be reached: this kernel has no Landlock")
            }
        }
    }
}

/// Gives up every file but those that the configuration needs, for this thread and those that it starts from now on.
pub fn confine(config: &Config) -> Result<Confinement, SystemError> {
    // A hook is a program of the operator's, which would inherit all of it.
    if !config.system.landlock || config.acme.dns_hook.is_some() {
        return Ok(Confinement::Off);
    }
    let places = Places::of(config);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(
            &places.read,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rules(path_beneath_rules(
            &places.write,
            AccessFs::from_all(LANDLOCK),
        ))?
        .add_rules(path_beneath_rules(&places.above, AccessFs::ReadDir))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::Unavailable,
    })
}

/// The places that a server of a configuration needs.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    /// Directories above those: a new directory is safe once the one above it has been synced, for which it is opened.
    above: BTreeSet<PathBuf>,
}

impl Places {
    fn of(config: &Config) -> Self {
        let mut places = Self {
            read: SYSTEM_READ.into_iter().map(PathBuf::from).collect(),
            write: BTreeSet::from([config.server.data.clone(), PathBuf::from("/dev/null")]),
            above: BTreeSet::new(),
        };
        let sockets = config.listeners.iter().filter_map(|it| match &it.address {
            ListenAddress::Unix(path) => Some(path.clone()),
            _ => None,
        });
        // A socket's file is made and removed.
        for socket in sockets.chain([config.admin_socket()]) {
            places.write.extend(socket.parent().map(Path::to_owned));
        }
        let objects = config.objects.url.as_deref();
        if let Some(directory) = objects.and_then(|url| url.strip_prefix("file://")) {
            places.write.insert(PathBuf::from(directory));
        }
        for file in files(config) {
            places.add_file(file);
        }
        places.write = places.write.iter().map(|path| nearest(path)).collect();
        let above = places.write.iter().filter_map(|path| path.parent());
        places.above = above.map(Path::to_owned).collect();
        places
    }

    /// The directory of a file, and of what it links to: files are renewed by putting others in their place.
    fn add_file(&mut self, file: &Path) {
        let target = file.canonicalize().ok();
        for path in [Some(file), target.as_deref()].into_iter().flatten() {
            self.read.extend(path.parent().map(Path::to_owned));
        }
    }
}

/// The path, or what there is of it: what is missing is made below.
fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|path| path.canonicalize().ok());
    there.unwrap_or_else(|| path.to_owned())
}

/// Every file that a configuration names.
fn files(config: &Config) -> impl Iterator<Item = &Path> {
    let certificates = config
        .certificates
        .iter()
        .flat_map(|it| [&it.certificate, &it.key]);
    let issuers = config.token_issuers.iter().map(|it| &it.keys);
    let relays = config
        .relays
        .iter()
        .flat_map(|it| [&it.password_file, &it.client_certificate, &it.client_key]);
    let single = [
        &config.tls.certificate,
        &config.tls.key,
        &config.tls.authorities,
        &config.tls.client_authorities,
        &config.acme.authorities,
        &config.smarthost.password_file,
        &config.delivery.trust_anchors,
        &config.postgresql.password_file,
        &config.postgresql.authorities,
        &config.objects.secret_key_file,
        &config.events.nats_password_file,
    ];
    let own = single.into_iter().chain(certificates).chain(issuers);
    let all = own.chain(relays);
    all.filter_map(|path| path.as_deref())
}

/// Tells the service manager that started this process, if one did, how the server stands (`sd_notify`): `READY=1`,
/// `STOPPING=1`.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    // A manager that does not listen does not want to know.
    let _ = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_a_configuration_names_can_be_reached() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        std::fs::write(archive.join("key1.pem"), "").unwrap();
        let live = dir.path().join("live");
        std::fs::create_dir(&live).unwrap();
        std::os::unix::fs::symlink(archive.join("key1.pem"), live.join("key.pem")).unwrap();
        let mut config = Config::default();
        config.tls.key = Some(live.join("key.pem"));
        config.server.data = dir.path().join("data");
        config.objects.url = Some(format!("file://{}", live.display()));
        if let Some(listener) = config.listeners.first_mut() {
            listener.address = ListenAddress::Unix(archive.join("lmtp.sock"));
        }
        let places = Places::of(&config);
        let archive = archive.canonicalize().unwrap();
        for read in [live.as_path(), archive.as_path(), Path::new("/etc")] {
            assert!(places.read.contains(read), "{places:?}");
        }
        for write in [dir.path(), &live, &archive] {
            assert!(places.write.contains(write), "{places:?}");
        }
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let mut config = Config::default();
        assert!(Identity::wanted(&config).unwrap().is_none());
        config.system.user = Some("no-such-user-here".to_owned());
        let error = Identity::wanted(&config).unwrap_err().to_string();
        assert!(error.contains("no-such-user-here"), "{error}");
    }
}
