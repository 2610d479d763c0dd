//! A process that is measured: on a core of its own, with a folder of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::load::{Client, Requests, closed};

/// The core of whoever is measured. Load and backend are on the others.
pub const CORE: &str = "0";

/// A process, which ends with this value.
pub struct Subject {
    pub name: &'static str,
    pub version: String,
    /// Where it is asked.
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Subject {
    /// Starts what `command` makes of a folder and waits until it answers 200 to `path` at `address`.
    ///
    /// # Errors
    /// In words, when it does not.
    pub async fn start(
        name: &'static str,
        version: String,
        address: SocketAddr,
        path: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("valerix-bench-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = on_its_core(&command(&folder));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(folder.join("said")).unwrap());
        let child = command
            .spawn()
            .map_err(|error| format!("failed to start {name}: {error}"))?;
        let mut subject = Self {
            name,
            version,
            address,
            child,
            folder,
        };
        let (began, requests) = (Instant::now(), Requests::get(path));
        while began.elapsed() < Duration::from_secs(20) {
            if let Ok(Some(status)) = subject.child.try_wait() {
                return Err(format!("{name} ended with {status}: {}", subject.said()));
            }
            if closed(address, &requests, 1, Duration::from_millis(1)).await.good > 0 {
                return Ok(subject);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("{name} does not answer: {}", subject.said()))
    }

    fn said(&self) -> String {
        let said = std::fs::read_to_string(self.folder.join("said")).unwrap_or_default();
        let line = said.lines().find(|line| line.contains("rror")).or(said.lines().last());
        line.unwrap_or_default().chars().take(200).collect()
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, in MiB.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn on_its_core(command: &Command) -> Command {
    let mut pinned = Command::new(command.get_program());
    if has_taskset() {
        pinned = Command::new("taskset");
        pinned.args(["-c", CORE]).arg(command.get_program());
    }
    pinned.args(command.get_args());
    pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        pinned.current_dir(folder);
    }
    pinned
}

/// Whether processes can be given a core of their own here.
pub fn has_taskset() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores > 1 || std::env::var_os("BENCH_PINNED").is_some()) && program("taskset").is_some()
}

/// Where a program is: in PATH, or where Debian keeps servers.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What a program says of its version: the first word that begins with a digit, after any slash.
pub fn version(program: &Path, argument: &str) -> String {
    let Ok(said) = Command::new(program).arg(argument).output() else {
        return String::new();
    };
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let words = said.split([' ', '/', '\n', 'v']);
    let number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    words.into_iter().find(number).unwrap_or_default().to_owned()
}

/// An address at which nobody listens.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks for a path once; status and what was heard.
pub async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client::new(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let status = client.ask(request.as_bytes()).await.unwrap_or(0);
    (status, client.heard())
}
