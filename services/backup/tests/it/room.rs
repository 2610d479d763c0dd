//! A folder on a file system of its own that is nearly full, as a pod's scratch with a size limit or a claim: in a mount
//! namespace that ends with the test.

use crate::trial::is_root;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// All of it. Unit: KiB.
const SIZE: usize = 64 * 1024;
/// What takes the room.
const BALLAST: &str = ".ballast";

pub struct Room {
    holder: Child,
    folder: PathBuf,
}

impl Room {
    /// With so much left. Needs a kernel that lets who runs the tests have namespaces.
    pub async fn over(folder: &Path, left_kibibytes: usize) -> Self {
        fs::create_dir_all(folder).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={SIZE}k,mode=0777 none '{}' && echo there && exec cat",
            folder.display()
        );
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        let mut holder = command
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(holder.stdout.take().unwrap());
        said.read_line(&mut line).await.unwrap();
        assert_eq!(line, "there\n", "a file system of its own can be made");
        let room = Self {
            holder,
            folder: folder.to_owned(),
        };
        let ballast = room.inside().join(BALLAST);
        fs::write(ballast, vec![0; (SIZE - left_kibibytes) * 1024]).unwrap();
        room
    }

    /// A program that finds this in the folder's place, run by this user where the tests run as root.
    pub fn program(&self, program: &str, user: Option<u32>) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--target", &self.holder.id().unwrap().to_string(), "--mount"]);
        match user {
            Some(user) if is_root() => {
                let user = user.to_string();
                command.args(["--setuid", &user, "--setgid", &user]);
            }
            _ if is_root() => {}
            _ => {
                command.args(["--user", "--preserve-credentials"]);
            }
        }
        command.arg("--").arg(program);
        command
    }

    /// The folder as those programs see it.
    pub fn inside(&self) -> PathBuf {
        let holder = self.holder.id().unwrap();
        PathBuf::from(format!("/proc/{holder}/root{}", self.folder.display()))
    }

    /// Every file in it, below whatever folders there are.
    pub fn files(&self) -> Vec<String> {
        let root = self.inside();
        let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != BALLAST {
                    let path = entry.path();
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Somebody makes room.
    pub fn clear(&self) {
        fs::remove_file(self.inside().join(BALLAST)).unwrap();
    }
}
